// Package roll reads the union's roll: who its members are, as its staff keep
// them in a spreadsheet.
//
// It knows what columns are called and how people write dates and numbers. It
// gives Read: the members of a sheet, and of every row what is wrong with it. It
// needs rows as text (package spreadsheet); what the books have already is the
// business of who imports.
package roll
