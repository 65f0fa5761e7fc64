package link

import (
	"errors"
	"net"
)

// maxPacket bounds an MQTT packet from the broker, in bytes after its fixed
// header: an envelope, its topic and what belongs to it. The format allows
// 256 MiB, and the client would make room for them.
const maxPacket = 64 << 10

var errPacket = errors.New("the broker sends a packet that is too large")

// guardedConn looks at the length of each MQTT packet before the client does,
// and ends the connection at one that is too large.
type guardedConn struct {
	net.Conn
	left  int // bytes of the packet that are still to come
	digit int // 0: the packet's type is next; then the digits of its length
}

func (c *guardedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if !c.pass(b[:n]) {
		return 0, errors.Join(errPacket, c.Conn.Close())
	}
	return n, err
}

// pass follows the packets; false is one that is too large.
func (c *guardedConn) pass(b []byte) bool {
	for len(b) > 0 {
		if c.digit == 0 && c.left > 0 {
			n := min(c.left, len(b))
			c.left -= n
			b = b[n:]
			continue
		}
		if c.digit > 0 {
			c.left |= int(b[0]&0x7f) << (7 * (c.digit - 1))
			if c.left > maxPacket || c.digit > 4 {
				return false
			}
		}
		if c.digit == 0 || b[0]&0x80 != 0 {
			c.digit++
		} else {
			c.digit = 0
		}
		b = b[1:]
	}
	return true
}
