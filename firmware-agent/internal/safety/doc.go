// Package safety is the loop that cuts power.
//
// It knows in which order a board is told what the safety rules say: first the
// main contactor, then the chargers, then what must be read again. It gives
// Report, Want and Clear, which other goroutines call, and State and Cuts, which
// tell what it did. It needs a board (driver.Guard) and the time; it knows no
// swap, no journal, no broker and no disk.
//
// # Why
//
// Power must be off within two seconds whatever else stands still. So this loop
// waits for nothing but the line, asks the cabinet's own board itself, and reads
// out of turn whatever has power and was not read for a second: a poller that is
// slow, stuck or dead costs nothing but line time. Every order is one transaction
// of the highest priority, so that no order waits for more than the transaction
// that is on the line. One goroutine gives all orders, on and off: an "on" can
// never overtake an "off".
//
// What it did is told to the cabinet's goroutine, which journals it when it can.
// Alarms are told as a state, not as events: nothing is lost while nobody looks.
package safety
