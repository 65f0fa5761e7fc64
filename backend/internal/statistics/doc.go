// Package statistics says what the union's figures mean: what counts, on which
// day, over which range, divided by what, and which groups are too small to be
// shown. It is pure.
//
// It knows the Asia/Shanghai calendar and nothing of where takes are kept. It
// gives Day and Range; Pieces, the months, parts of months and days that a range
// is added up from; Question and Figure; Unions and Platforms, which show riders'
// groups and hide those that would give people away. It needs counts.
//
// # Why
//
// A figure ends up in a newspaper. So it carries a position of the ledger, and
// says the same of it for ever; and it says nothing of fewer than ten riders, also
// not to who subtracts.
package statistics
