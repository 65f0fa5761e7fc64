package safety_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestAChargerThatWentOnIsSwitchedAtOnce: only one that does not go on is told again
// ever more seldom.
func TestAChargerThatWentOnIsSwitchedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, rigOptions{slots: 2})
		for range 6 {
			began := r.now()
			r.want(1)
			r.charging(1)
			require.Less(t, r.now()-began, 3*time.Second)
			time.Sleep(1500 * time.Millisecond) // its board has told by now
			r.want()
			r.until("off", func() bool {
				r.boards.mu.Lock()
				defer r.boards.mu.Unlock()
				return !r.boards.power(1)
			})
		}
	})
}
