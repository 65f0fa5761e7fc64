package agent

import (
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestTheScreensPortIsTaken: the agent works without a screen, says so once, and has
// one as soon as the port is free.
func TestTheScreensPortIsTaken(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	r := newRig(t, newSlave(2).serve(t), 2)
	content, err := os.ReadFile(r.config)
	require.NoError(t, err)
	changed := strings.Replace(string(content), "screen_listen: 127.0.0.1:0", "screen_listen: "+taken.Addr().String(), 1)
	require.NoError(t, os.WriteFile(r.config, []byte(changed), 0o600))
	a := r.start(r.options())
	knows(t, a, 2)
	require.Empty(t, a.ScreenAddr())
	told := func() int { return strings.Count(r.log.String(), "no screen: its address cannot be had") }
	require.Eventually(t, func() bool { return told() > 0 }, patience, 20*time.Millisecond)
	require.NoError(t, taken.Close())
	require.Eventually(t, func() bool { return a.ScreenAddr() != "" }, patience, 20*time.Millisecond)
	require.Equal(t, 1, told())
	reply, err := http.Get("http://" + a.ScreenAddr() + "/")
	require.NoError(t, err)
	require.NoError(t, reply.Body.Close())
	require.Equal(t, http.StatusOK, reply.StatusCode)
}
