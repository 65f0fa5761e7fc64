package staff

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"
)

// Line is one line of the audit log.
type Line struct {
	No     int64           `json:"no"`
	At     time.Time       `json:"at"`
	Actor  string          `json:"actor"`
	Act    string          `json:"act"`
	Object string          `json:"object"`
	Detail json.RawMessage `json:"detail"`
}

// Link is a line as it is kept: its text and the hash of the chain up to it.
type Link struct {
	No   int64
	Body string
	Hash []byte
}

// Chain checks the audit log from its first line on, in order.
type Chain struct {
	No   int64
	Hash []byte
}

// Add checks the next line. The error says what is wrong with it.
func (c *Chain) Add(l Link) (Line, error) {
	var line Line
	if l.No != c.No+1 {
		return line, fmt.Errorf("line %d is missing: %d follows %d", c.No+1, l.No, c.No)
	}
	sum := sha256.New()
	sum.Write(c.Hash)
	sum.Write([]byte(l.Body))
	h := sum.Sum(nil)
	if !bytes.Equal(h, l.Hash) {
		return line, fmt.Errorf("line %d was altered: its hash is %s, want %s", l.No, hex.EncodeToString(l.Hash), hex.EncodeToString(h))
	}
	if err := json.Unmarshal([]byte(l.Body), &line); err != nil || line.No != l.No {
		return line, fmt.Errorf("line %d was altered: its text is of line %d", l.No, line.No)
	}
	c.No, c.Hash = l.No, h
	return line, nil
}

// Head names the chain's end: whoever noted it once can tell later whether what
// was before it has been changed.
func (c *Chain) Head() string { return fmt.Sprintf("%d:%s", c.No, hex.EncodeToString(c.Hash)) }
