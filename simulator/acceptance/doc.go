// Package acceptance holds tests only: the whole system with its real parts,
// and the shape of this tree.
//
// It knows which package may import which, what a pure package may not do, and
// what the programs promise to the people who run them. It gives nothing to
// other packages. It needs the go command, and for the tests of the whole
// system a PostgreSQL, a mosquitto and a pseudo-terminal, which it starts and
// stops itself.
package acceptance
