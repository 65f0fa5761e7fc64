package bus

import "time"

// Bounds of leisure.
const (
	// leisureWindow is how long the line's load is looked at.
	leisureWindow = time.Second
	// leisureLoad is the share of the time, in percent, above which there is no
	// leisure: somebody wants as many readings as the line gives.
	leisureLoad = 90
	// A reply that was not there yet when it was read makes the next ones be read
	// later by leisureStep; each that was there, sooner by one part in leisureDecay.
	leisureStep  = 500 * time.Microsecond
	leisureDecay = 128
)

// leisure tells when nobody waits for the next request: then a reply is read once,
// when all of it should be there, and not piece by piece as it arrives. An agent
// at rest is woken a third as often. It learns how long boards think.
type leisure struct {
	since time.Time // the window's start
	busy  time.Duration
	on    bool
	lag   time.Duration // from the last byte's time on the wire, if boards answered at once
}

// begins says that a request is about to be served.
func (l *leisure) begins(now time.Time) {
	if l.since.IsZero() {
		l.since = now
	}
	if passed := now.Sub(l.since); passed >= leisureWindow {
		l.on = l.busy < passed*leisureLoad/100
		l.since, l.busy = now, 0
	}
}

// ended says that a request was served.
func (l *leisure) ended(began, now time.Time) { l.busy += now.Sub(began) }

// learn takes in whether the whole reply was there when it was first read.
func (l *leisure) learn(whole bool, most time.Duration) {
	if whole {
		l.lag -= l.lag / leisureDecay
	} else {
		l.lag = min(l.lag+leisureStep, most)
	}
}
