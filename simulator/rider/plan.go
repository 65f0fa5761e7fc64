package rider

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// Behaviour is what kind of person a rider is.
type Behaviour string

// The behaviours.
const (
	Quick        Behaviour = "quick"         // does what the page says, at once
	Hurried      Behaviour = "hurried"       // quicker than the page; forgets the cable now and then
	AbsentMinded Behaviour = "absent-minded" // walks off leaving doors open, and returns
	Dishonest    Behaviour = "dishonest"     // closes empty, puts back, tries a foreign battery
)

// Behaviours lists them all.
func Behaviours() []Behaviour { return []Behaviour{Quick, Hurried, AbsentMinded, Dishonest} }

// ParseBehaviour finds a behaviour by its name.
func ParseBehaviour(name string) (Behaviour, error) {
	for _, b := range Behaviours() {
		if string(b) == name {
			return b, nil
		}
	}
	return "", fmt.Errorf("behaviour %q: expected one of %v", name, Behaviours())
}

// Deed is what a rider does otherwise than the page says, in one swap.
type Deed string

// The deeds.
const (
	Plain        Deed = ""              // nothing
	Unplugged    Deed = "unplugged"     // puts the battery in without its cable at first
	LeaveDeposit Deed = "leave_deposit" // walks off with the battery in and the door open
	LeaveTake    Deed = "leave_take"    // walks off with the charged battery, the door open
	CloseEmpty   Deed = "close_empty"   // closes the deposit door without a battery
	PutBack      Deed = "put_back"      // takes the charged battery and puts it back
	Foreign      Deed = "foreign"       // puts a battery in that is not of the fleet
)

// Plan is how one swap of one rider goes.
type Plan struct {
	// Rest is how long the rider rides before it, at speed 1.
	Rest time.Duration
	// DrainPermille is how much of the battery the ride takes.
	DrainPermille int
	// Hand is how long one act of the hands takes.
	Hand time.Duration
	// Away is how long a rider who walks off is away.
	Away time.Duration
	Deed Deed
	// Types: where presence is asked for, the rider types the code on the screen
	// and does not press the button.
	Types bool
	// Cabinets is the order in which cabinets are tried: indexes.
	Cabinets []int
}

// deeds is what a behaviour does in a hundred swaps; the rest is plain.
func deeds(b Behaviour) []Deed {
	var d []Deed
	add := func(deed Deed, times int) {
		for range times {
			d = append(d, deed)
		}
	}
	switch b {
	case Hurried:
		add(Unplugged, 15)
		add(LeaveTake, 5)
	case AbsentMinded:
		add(LeaveDeposit, 20)
		add(LeaveTake, 20)
		add(Unplugged, 10)
	case Dishonest:
		add(CloseEmpty, 15)
		add(PutBack, 15)
		add(Foreign, 20)
	}
	add(Plain, 100-len(d))
	return d
}

// between draws a duration from [low, high).
func between(r *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(r.Int64N(int64(high-low)))
}

// PlanFor draws the plan of a rider's n-th swap. The same seed, rider and
// number give the same plan, whatever happened before.
func PlanFor(seed uint64, rider, n int, b Behaviour, cabinets int) Plan {
	r := rand.New(rand.NewPCG(seed, uint64(rider)<<32|uint64(n)))
	p := Plan{
		Rest:          between(r, 10*time.Minute, 25*time.Minute),
		DrainPermille: 550 + r.IntN(350),
		Hand:          between(r, 200*time.Millisecond, 600*time.Millisecond),
		Away:          between(r, 20*time.Second, 120*time.Second),
		Deed:          deeds(b)[r.IntN(100)],
		Cabinets:      r.Perm(cabinets),
	}
	p.Types = r.IntN(2) == 0
	switch b {
	case Hurried:
		p.Hand /= 4
	case AbsentMinded:
		p.Hand *= 5
	}
	return p
}
