// Package agent is the agent as a value: it wires the cabinet's parts together,
// starts them and stops them.
//
// It knows which part needs which, and the two things of the machine that no
// part knows: the serial port and the table of the kinds of board. It gives
// Options, New, Start and Stop. It needs a configuration.
package agent
