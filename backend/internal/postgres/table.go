package postgres

import (
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// column says how one field of a row reaches one column, many rows at a time:
// as one array.
type column[T any] struct {
	name string
	typ  string // of the array's elements
	expr string // the column's value, from the element v
	pick func([]T) any
}

// writer writes any number of rows of one table in one statement.
type writer[T any] struct {
	sql     string
	columns []column[T]
}

// queue adds the statement for these rows; none is no statement.
func (w writer[T]) queue(b *pgx.Batch, rows []T) {
	if len(rows) == 0 {
		return
	}
	args := make([]any, len(w.columns))
	for i, c := range w.columns {
		args[i] = c.pick(rows)
	}
	b.Queue(w.sql, args...)
}

// inserts appends rows in their order. tail is what follows: ON CONFLICT ….
func inserts[T any](table, tail string, cs ...column[T]) writer[T] {
	names, exprs, arrays, vs := parts(cs)
	sql := fmt.Sprintf("INSERT INTO %s (%s) SELECT %s FROM unnest(%s) WITH ORDINALITY AS t(%s, ord) ORDER BY ord %s",
		table, names, exprs, arrays, vs, tail)
	return writer[T]{sql, cs}
}

// upserts writes rows whole, whether they exist or not. Locking the rows in
// order is the loader's part.
func upserts[T any](table, key string, cs ...column[T]) writer[T] {
	var set []string
	for _, c := range cs {
		if c.name != key {
			set = append(set, c.name+" = EXCLUDED."+c.name)
		}
	}
	return inserts(table, fmt.Sprintf("ON CONFLICT (%s) DO UPDATE SET %s", key, strings.Join(set, ", ")), cs...)
}

// updates changes rows that exist. The first column is the key.
func updates[T any](table string, cs ...column[T]) writer[T] {
	_, _, arrays, vs := parts(cs)
	var set []string
	for _, c := range cs[1:] {
		set = append(set, c.name+" = "+c.expr)
	}
	sql := fmt.Sprintf("UPDATE %s AS x SET %s FROM unnest(%s) AS t(%s) WHERE x.%s = %s",
		table, strings.Join(set, ", "), arrays, vs, cs[0].name, cs[0].expr)
	return writer[T]{sql, cs}
}

func parts[T any](cs []column[T]) (names, exprs, arrays, vs string) {
	var n, e, a, v []string
	for i, c := range cs {
		n, e, v = append(n, c.name), append(e, c.expr), append(v, "v_"+c.name)
		a = append(a, fmt.Sprintf("$%d::%s[]", i+1, c.typ))
	}
	return strings.Join(n, ", "), strings.Join(e, ", "), strings.Join(a, ", "), strings.Join(v, ", ")
}

func plain[T, V any](name, typ string, get func(T) V) column[T] {
	return column[T]{name, typ, "t.v_" + name, func(rows []T) any {
		out := make([]V, len(rows))
		for i, r := range rows {
			out[i] = get(r)
		}
		return out
	}}
}

// text is a column of strings; "" is NULL.
func text[T any, S ~string](name string, get func(T) S) column[T] {
	c := plain(name, "text", func(r T) string { return string(get(r)) })
	c.expr = "NULLIF(t.v_" + name + ", '')"
	return c
}

// uuids is a column of identifiers; "" is NULL.
func uuids[T any, S ~string](name string, get func(T) S) column[T] {
	c := text(name, get)
	c.expr += "::uuid"
	return c
}

// dates is a column of days; "" is NULL.
func dates[T any, S ~string](name string, get func(T) S) column[T] {
	c := text(name, get)
	c.expr += "::date"
	return c
}

// list is a column of short lists of words.
func list[T any, S ~string](name, typ string, get func(T) []S) column[T] {
	c := text(name, func(r T) string { return strings.Join(strs(get(r)...), " ") })
	c.expr = "coalesce(string_to_array(" + c.expr + ", ' '), '{}')::" + typ + "[]"
	return c
}

// documents is a column of JSON; nil is NULL.
func documents[T any](name string, get func(T) any) column[T] {
	c := text(name, func(r T) string { return string(encode(get(r))) })
	c.expr += "::jsonb"
	return c
}

// numbers is a column of integers.
func numbers[T any, N ~int | ~int64 | ~uint64 | ~uint32 | ~uint8](name string, get func(T) N) column[T] {
	return plain(name, "bigint", func(r T) int64 { return int64(get(r)) })
}

func flags[T any](name string, get func(T) bool) column[T] { return plain(name, "boolean", get) }

// b16 is a column of epochs, hashes, nonces or boot identifiers; zero is NULL.
func b16[T any, A ~[16]byte](name string, get func(T) A) column[T] {
	return plain(name, "bytea", func(r T) []byte { return nullable16(get(r)) })
}

func nullable16[A ~[16]byte](a A) []byte {
	if a == (A{}) {
		return nil
	}
	return a[:]
}

// times is a column of moments; the zero time is NULL.
func times[T any](name string, get func(T) time.Time) column[T] {
	return plain(name, "timestamptz", func(r T) *time.Time {
		if t := get(r); !t.IsZero() {
			return &t
		}
		return nil
	})
}
