// Package roll reads the union's roll: who its members are, as its staff keep
// them in a spreadsheet.
//
// It knows what columns are called, how people write dates and numbers, and how a
// row finds the rider that it is about. It gives Read, the members of a sheet and
// all that is wrong with each row; Tree, the union's bodies; and Books, which
// settles what becomes of a row. It needs rows as text (package spreadsheet) and
// what the books have.
package roll
