// Package link speaks MQTT with the cabinets; it is the only importer of paho.
//
// It knows topics, subscriptions, envelopes and keys. It gives typed, verified
// messages to handlers and publishes signed ones. It needs the broker's address,
// the keys that speak for the backend and a ring of the devices' public keys; it
// knows nothing of swaps and nothing of the database.
//
// # Why
//
// The broker is a lossy datagram pipe: a token that completes proves nothing, so
// no token is waited for and every queue drops when it is full; the protocol
// sends again. Two connections, each with its own certificate: records and calls
// on the first, by shared subscriptions; telemetry and wills on the second, so
// that a flood of heartbeats never delays a record.
//
// Each connection is a new paho client, and a loop of this package makes the next
// one. With paho's own reconnect a publish of the last connection is sent again
// on the next, minutes later; commands must be neither durable nor queued. It
// also makes stopping exact: nothing sleeps through it.
package link
