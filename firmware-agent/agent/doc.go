// Package agent is the agent as a value: it wires the cabinet's parts together,
// starts them and stops them.
//
// It knows which part needs which, and what no part knows of the machine: the
// serial port, the clock, the page cache, the table of the kinds of board. It
// gives Options, New, Start, Done and Stop, ClearAlarms for who stands at the
// cabinet, and Core, which decides alike without I/O. It needs a configuration file.
//
// # Why
//
// A serial port or a broker that is not there, at start or later, is weather: it
// shows in the log and in the metrics, and everything goes on when it returns. A
// journal that cannot be written is not. While the agent runs that ends it; when
// it starts, it comes up without a cabinet: outputs in their safe state, no lock
// in reach, and it says to everybody that it is out of service.
package agent
