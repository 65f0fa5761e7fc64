// Package link is the agent's connection to the backend: the only importer of
// an MQTT client.
//
// It knows topics, envelopes, the key ring, hello and the shipping of journal
// records. It gives the cabinet verified, typed commands, and takes messages to
// send that may be lost. It needs the journal to ship, the device key, and
// functions that answer what the cabinet is like right now.
//
// # Why
//
// The broker is a lossy datagram pipe: a delivery that it confirmed may never
// have happened. So a confirmation moves nothing here. Only an acknowledgement
// that the backend signed after its commit, with the right hash, moves the log
// on, and until it comes the same records are sent again, for ever.
//
// Each connection is made with a new client and thrown away when it ends. A
// client that reconnects by itself would send again what it had stored for the
// dead connection, would keep all cabinets' attempts in step after an outage,
// and could not be stopped while it waits.
package link
