// Package fleet is the backend as a value: Options, New, Start, Stop.
//
// It knows how the parts fit: what a cabinet says goes to the books, what the
// books answer goes to the cabinet, what riders ask goes to both. It gives a
// server that starts and stays up while the database or the broker are away, and
// the metrics. It needs a PostgreSQL, a broker and the keys that speak for the
// backend.
//
// # Why
//
// Nothing about a swap is kept here. Every handler acts from the database alone,
// so any replica may get any message: one asks a cabinet, another grants, a third
// commits its records, and the phone is connected to a fourth. What this package
// holds in memory can be lost at any moment: the copy of the devices' keys, the
// heartbeats on their way to the database, and counters.
package fleet
