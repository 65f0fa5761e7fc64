// Package protocol holds the words and wire forms that the agent, the backend
// and the simulator share. It is pure: no I/O, no clock, no goroutine.
//
// It knows identifiers, MQTT topics, the two-line signed envelope, every
// message, the journal record with its payloads, and the closed lists (kinds,
// outcomes, purposes, reasons). It gives encoders and strict, bounded decoders.
// It needs nothing but the standard library.
//
// # Words
//
// A station is a place with one or more cabinets. A cabinet is one box with one
// agent and many slots. A slot is one compartment, numbered from 1 as painted
// on its door. A door is open or shut; closed means shut and its bolt locked,
// both stable for two seconds. A swap is one scan, one deposit, one take. The
// rider makes a deposit; the cabinet dispenses, that is, it unlocks a charged
// battery's slot; the take is complete, and counts, when that slot is closed
// and empty. A grant is the signed permission to do one swap, once, in this
// boot, with these slots. A credit is one battery that the fleet owes a rider,
// at any cabinet. Custody says who has a battery: rider, slot, staff, review. A
// review is a case with more than one explanation; a person decides it. A
// reason says why a scan was refused. A fault is wrong hardware; an alarm is
// that somebody was told.
package protocol
