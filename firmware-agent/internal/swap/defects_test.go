package swap

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// caught is a TestingT that only notes the first failure.
type caught struct{ message string }

// stop unwinds a walk at its first failure.
type stop struct{}

func (c *caught) Errorf(format string, args ...any) {
	if c.message == "" {
		c.message = fmt.Sprintf(format, args...)
	}
}

func (c *caught) FailNow() { panic(stop{}) }

// TestDefectsAreFound breaks the machine's world on purpose: the walks must find
// each defect, and say which invariant it breaks.
func TestDefectsAreFound(t *testing.T) {
	for broken, want := range map[defect]string{
		noIntent: "I4:", noBolt: "I8:", noStable: "I8:", noOldState: "I13:",
	} {
		found := ""
		seed := uint64(0)
		for ; found == "" && seed < 400; seed++ {
			found = walkBroken(broken, seed)
		}
		require.Contains(t, found, want, "defect %d", broken)
		t.Logf("defect %d: found by walk %d", broken, seed-1)
	}
	require.Empty(t, walkBroken(sound, 1))
}

func walkBroken(broken defect, seed uint64) (found string) {
	c := &caught{}
	defer func() {
		if r := recover(); r != nil {
			if _, ok := r.(stop); !ok {
				panic(r)
			}
			found = c.message
		}
	}()
	w := newWalker(c, seed)
	w.broken = broken
	w.run()
	return c.message
}
