// Package soak runs whole fleets from a seed, in virtual time, on one goroutine:
// the agents' cores with their real journals on simulated flash, the backend's
// decisions and fold on books in memory, and between them a network, slots,
// batteries and riders made of facts. It holds tests only.
//
// It knows the invariants I1 to I14 by number, and judges them by the facts of
// the world, which nobody but the simulation sees. It gives TestSoak, TestReplay,
// the crash matrix and the seeded bugs. It needs agent.Core and fleet.Memory,
// which are made of the code that production runs.
//
// # Why
//
// Everything random comes from the seed, so a violation is a number: the run
// that found it can be had again, with a trace of who did what. And a checker
// that has never seen a bug proves nothing, so bugs are built in, each in a
// copy of the sources, and each has to be found.
package soak
