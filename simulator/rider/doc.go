// Package rider is the people: they scan, follow the page, put batteries in,
// take batteries out, close doors, and sometimes do none of that.
//
// It knows a rider's habits and the backend's public HTTP interface, which is
// all that a phone has. It gives a Rider that does one swap after the other and
// tells what the page said in the end. It needs a world to act in, a clock, and
// a seed: what a rider does in a swap follows from seed, rider and the number of
// the swap alone, never from the time.
package rider
