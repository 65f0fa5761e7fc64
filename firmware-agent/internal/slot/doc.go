// Package slot turns what a board says of one slot into what the agent may
// believe of it: presence, door, closed, battery, charged.
//
// It knows the evidence rules: a sensor has three answers and unknown is the
// zero value, all signs must agree, a reading that is too old is no reading. It
// gives the views that the swap machine decides on. It needs readings and the
// time that comes with them; it does no I/O and reads no clock.
package slot
