package bus

import "time"

// Bounds in time. The figures of the line come from MODBUS over Serial Line
// V1.02; the others are ours.
const (
	// margin is added to every timeout: a USB adapter hands bytes over every 16 ms.
	margin = 20 * time.Millisecond
	// lateFactor times the device's time is the latest that a late reply comes.
	lateFactor = 3
	// fastGap is 3.5 characters above 19200 baud, where the standard fixes it.
	fastGap = 1750 * time.Microsecond
	// quietLimit bounds the wait for a line that does not fall silent.
	quietLimit = 2 * time.Second
	// writeLimit bounds a write over the time that its bytes take.
	writeLimit = time.Second
	// reopenPause is how long a failed line is left alone.
	reopenPause = time.Second
	// closeLimit bounds the wait for the goroutine in Close.
	closeLimit = 3 * time.Second
	// napMargin is how much earlier than needed a nap ends: the runtime's
	// timers may be a millisecond late, a read's own timeout is not.
	napMargin = 2 * time.Millisecond
)

// Timing is how long bytes take on a line.
type Timing struct {
	// Char is the time of one character.
	Char time.Duration
	// Gap is the silence that separates two frames: 3.5 characters.
	Gap time.Duration
	// Late is how long after a failure a late reply may still come.
	Late time.Duration
	// Device is how long a board may take before it replies.
	Device time.Duration
}

// timing is the line's timing: charBits is 10 for 8N1, 11 with parity or two
// stop bits.
func timing(baud, charBits int, gap, device time.Duration) Timing {
	t := Timing{Char: time.Second * time.Duration(charBits) / time.Duration(baud), Device: device}
	t.Gap = t.Char * 7 / 2
	if baud > 19200 {
		t.Gap = fastGap
	}
	t.Gap = max(t.Gap, gap)
	t.Late = max(t.wire(maxFrame), lateFactor*device)
	return t
}

// wire is how long n bytes take.
func (t Timing) wire(n int) time.Duration { return time.Duration(n) * t.Char }

// Exchange is how long a request and its reply take on the wire, with the two
// gaps, when the board takes no time at all.
func (t Timing) Exchange(request, reply int) time.Duration {
	return t.wire(request+reply) + 2*t.Gap
}

// timeout is how long after the first byte of the request was written its reply
// must be complete.
func (t Timing) timeout(request, reply int) time.Duration {
	return t.Exchange(request, reply) + t.Device + margin
}
