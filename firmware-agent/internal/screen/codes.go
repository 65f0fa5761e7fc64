package screen

import (
	"io"
	"sync"
	"time"
)

// codeLife is how long a code is shown. It is valid as long again.
const codeLife = 30 * time.Second

// codeLength letters of the alphabet are 10⁹ codes: nobody guesses one in a minute.
const codeLength = 6

// alphabet has no letter or digit that is read for another.
const alphabet = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"

// Codes draws the presence codes: random, a new one every 30 s, in RAM only. The
// current and the previous one are valid. Any goroutine may ask.
type Codes struct {
	now    func() time.Duration
	random io.Reader

	mu                sync.Mutex
	drawn             bool
	period            time.Duration // number of the current code's period
	current, previous string
}

// NewCodes draws from random by a monotonic clock.
func NewCodes(now func() time.Duration, random io.Reader) *Codes {
	return &Codes{now: now, random: random}
}

// Current is the code to show; "" when none can be drawn.
func (c *Codes) Current() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn()
	return c.current
}

// Valid are the codes that prove presence now.
func (c *Codes) Valid() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.turn()
	var valid []string
	for _, code := range []string{c.current, c.previous} {
		if code != "" {
			valid = append(valid, code)
		}
	}
	return valid
}

// turn draws a new code when the time of the current one is over. A code that was
// over before nobody looked is not the previous one.
func (c *Codes) turn() {
	period := c.now() / codeLife
	if c.drawn && period == c.period {
		return
	}
	c.previous = ""
	if c.drawn && period == c.period+1 {
		c.previous = c.current
	}
	c.current, c.period, c.drawn = c.draw(), period, true
}

// draw picks letters without favour: bytes beyond the last whole round of the
// alphabet are thrown away.
func (c *Codes) draw() string {
	const limit = 256 - 256%len(alphabet)
	code := make([]byte, 0, codeLength)
	var b [1]byte
	for len(code) < codeLength {
		if _, err := io.ReadFull(c.random, b[:]); err != nil {
			return ""
		}
		if int(b[0]) < limit {
			code = append(code, alphabet[int(b[0])%len(alphabet)])
		}
	}
	return string(code)
}
