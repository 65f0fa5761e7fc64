// Package meter is the register maps of energy meters that can be bought: where
// on a meter voltage, current, power and energy stand, and in what unit.
//
// It knows four meters: Chint DDSU666 and DTSU666, Eastron SDM120 and SDM630. All
// give float32 values, the high word first. It gives both directions, registers to
// values for the agent and values to registers for a simulated meter. It needs
// nothing and does no I/O; the frames around the registers are package modbus.
//
// Sources: the register lists of the vendors' manuals, as published drivers use
// them (DDSU666: 2000, 4000; DTSU666: 2006, 200C, 2012, 101E; SDM: 0000, 0006,
// 000C, 0034, 0048). Only registers that follow one another without a hole are
// read in one request: what a meter answers for a hole is its maker's secret.
package meter
