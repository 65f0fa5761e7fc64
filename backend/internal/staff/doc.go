// Package staff knows who works the backend: accounts with roles, how one proves
// to be somebody, what a session may do, and the words of the audit log.
//
// It gives values and pure checks (passwords by argon2id, codes by TOTP, the
// chain of the audit log, which cabinets need somebody now). It needs the time
// from its caller and random bytes from the system; it does no I/O.
//
// # Why
//
// A role is the only thing that opens a route, and nobody has one by default. A
// password alone opens nothing: a code is needed too, each code works once, and
// what cannot be undone asks for a fresh one. The audit log is a chain of
// hashes: whoever can edit a table can still not change what was written without
// the head of the chain, which is told to others every day, giving it away.
package staff
