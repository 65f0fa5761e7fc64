// Package charging says what is charged, and when power is cut.
//
// It knows two things that share only the battery types. The safety rules (Guard)
// make, of what was read and what was commanded, a verdict: which slots may have
// power, whether the main contactor may be closed, which alarms are on. The plan
// (Planner) says which batteries are charged now, how fast, within a power
// budget. It gives values; it needs readings, views and the time that comes with
// them. It is pure.
//
// # Why
//
// Power goes at the first sign: a cut that was not needed costs a minute of
// charging. An alarm that keeps a battery or the cabinet out of use until
// somebody comes wants a second reading that agrees.
package charging
