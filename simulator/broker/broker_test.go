package broker

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const patience = 30 * time.Second

// The broker speaks MQTT 3.1.1, and hangs up on who wants a message kept.
func TestBrokerKeepsNothing(t *testing.T) {
	b, err := Start()
	require.NoError(t, err)
	defer func() { require.NoError(t, b.Stop()) }()
	address := strings.TrimPrefix(b.url, "tcp://")
	connect := func() net.Conn {
		c, err := net.Dial("tcp", address)
		require.NoError(t, err)
		require.NoError(t, c.SetDeadline(time.Now().Add(patience)))
		// CONNECT, level 4, clean session, client id "t".
		_, err = c.Write([]byte{0x10, 13, 0, 4, 'M', 'Q', 'T', 'T', 4, 2, 0, 30, 0, 1, 't'})
		require.NoError(t, err)
		back := make([]byte, 4)
		_, err = c.Read(back)
		require.NoError(t, err)
		require.Equal(t, []byte{0x20, 2, 0, 0}, back, "CONNACK")
		return c
	}
	// PUBLISH at QoS 1 with packet id 7 to topic "a".
	publish := func(c net.Conn, flags byte) ([]byte, error) {
		_, err := c.Write([]byte{0x32 | flags, 6, 0, 1, 'a', 0, 7, 'x'})
		require.NoError(t, err)
		back := make([]byte, 4)
		n, err := c.Read(back)
		return back[:n], err
	}
	c := connect()
	back, err := publish(c, 0)
	require.NoError(t, err)
	require.Equal(t, []byte{0x40, 2, 0, 7}, back, "PUBACK")
	back, err = publish(c, 1)
	require.Error(t, err, "got % X", back)
	c.Close()
	connect().Close()
}
