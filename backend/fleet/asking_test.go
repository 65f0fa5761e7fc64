package fleet

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// TestAReplicaAsksForHellos: one that starts cannot know whether its database is
// an older one, so every cabinet that is connected says hello.
func TestAReplicaAsksForHellos(t *testing.T) {
	w := newTown(t)
	w.start().ready()
	a := w.cabinet("hb-0001")
	a.hello()
	for len(a.asks) > 0 {
		<-a.asks
	}
	w.start().ready()
	require.NoError(t, receive(t, a.asks).Validate())
}
