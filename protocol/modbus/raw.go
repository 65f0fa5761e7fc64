package modbus

import (
	"bytes"
	"fmt"
)

// Raw is a question that the standard forbids and a device demands: "send these
// bytes, expect so many, check the checksum". A charger has a function 4D and a
// function 0F without byte count; a relay board takes a pulse length as the
// value of function 05.
type Raw struct {
	// Body is the request without its checksum.
	Body []byte
	// Length is how long the reply is, checksum included.
	Length int
	// Echo is how many leading bytes of the reply repeat the request.
	Echo int
}

// Check says what is wrong with the question.
func (w Raw) Check() error {
	switch {
	case len(w.Body) < 2 || len(w.Body)+crcLen > MaxFrame:
		return fmt.Errorf("modbus raw request: %w: %d bytes before the checksum", ErrLength, len(w.Body))
	case w.Length <= crcLen || w.Length > MaxFrame:
		return fmt.Errorf("modbus raw request: %w: a reply of %d bytes", ErrLength, w.Length)
	case w.Echo < 1 || w.Echo > len(w.Body) || w.Echo+crcLen > w.Length:
		return fmt.Errorf("modbus raw request: %w: an echo of %d bytes", ErrLength, w.Echo)
	}
	return nil
}

// Append appends the frame, checksum included, to dst.
func (w Raw) Append(dst []byte) ([]byte, error) {
	if err := w.Check(); err != nil {
		return dst, err
	}
	return append(dst, AppendCRC(bytes.Clone(w.Body))...), nil
}

// ExpectedLen is how long the reply is.
func (w Raw) ExpectedLen() int { return w.Length }

// ReplyLen is how long the reply that starts with prefix is: 0 when more bytes
// are needed to tell, an error when it cannot be the reply.
func (w Raw) ReplyLen(prefix []byte) (int, error) {
	n := min(len(prefix), w.Echo)
	if !bytes.Equal(prefix[:n], w.Body[:n]) {
		return 0, fmt.Errorf("modbus raw reply: %w: % X, expected % X", ErrEcho, prefix[:n], w.Body[:n])
	}
	if n < w.Echo {
		return 0, nil
	}
	return w.Length, nil
}

// Accept says whether a whole frame is the reply.
func (w Raw) Accept(frame []byte) error {
	_, err := w.DecodeReply(frame)
	return err
}

// DecodeReply checks a whole reply and gives what stands between the echo and
// the checksum.
func (w Raw) DecodeReply(frame []byte) ([]byte, error) {
	if len(frame) != w.Length {
		return nil, fmt.Errorf("modbus raw reply: %w: %d bytes, expected %d", ErrLength, len(frame), w.Length)
	}
	if err := CheckCRC(frame); err != nil {
		return nil, fmt.Errorf("modbus raw reply: %w", err)
	}
	if _, err := w.ReplyLen(frame); err != nil {
		return nil, err
	}
	return frame[w.Echo : len(frame)-crcLen], nil
}
