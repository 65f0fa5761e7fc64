// Package world is what physically is: cabinets with their slots, doors, bolts
// and chargers, batteries, the people who hold them, and what is broken.
//
// It knows facts and physics, no protocol and no script: acts change facts, and
// nothing forbids a wrong order. Only what cannot be done by hand is refused: a
// battery does not go through a shut door, two do not fit into one slot, and
// nobody puts in what they do not hold.
//
// It gives boards what their sensors feel (Sense), people what their eyes see
// (View), and checkers the truth (Facts, Events, Openings), which nobody inside
// the system under test can see.
//
// It needs a source of randomness, for sensors that flap and faults that strike
// now and then, and the time, which comes in with every act as the time since
// the world began. It reads no clock and starts no goroutine; all its methods
// may be called from many.
package world
