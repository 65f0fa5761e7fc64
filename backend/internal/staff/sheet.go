package staff

import (
	"fmt"
	"strings"

	"batteryswap/protocol"
)

// Sheet is a list of batteries as it was read: what can be imported, and what is
// wrong, row by row.
type Sheet struct {
	Batteries []NewBattery
	Mistakes  []RowMistake
}

// RowMistake is what is wrong in one row, counted as spreadsheets do.
type RowMistake struct {
	Row   int
	Code  string // of a closed list: each has a text
	About string // the serial, row or number that it is about
	What  string // the same in English, for a shell
}

// The codes of mistakes in a sheet.
const (
	SheetHeader = "header"
	SheetEmpty  = "empty"
	SheetSerial = "serial"
	SheetTwice  = "twice"
	SheetType   = "type"
	SheetCells  = "cells"
)

// SheetCodes is the closed list.
func SheetCodes() []string {
	return []string{SheetHeader, SheetEmpty, SheetSerial, SheetTwice, SheetType, SheetCells}
}

// MaxSheet bounds a list of batteries, in rows.
const MaxSheet = 20_000

// maxType bounds a battery's type, in bytes.
const maxType = 100

// ReadBatteries reads a list with the header battery_serial, type. Every row
// that is wrong is told.
func ReadBatteries(rows [][]string) Sheet {
	var s Sheet
	wrong := func(row int, code string, about any, format string, a ...any) {
		s.Mistakes = append(s.Mistakes, RowMistake{row, code, fmt.Sprint(about), fmt.Sprintf(format, a...)})
	}
	if len(rows) == 0 || strings.Join(rows[0], ",") != "battery_serial,type" {
		wrong(1, SheetHeader, "", "want the header battery_serial, type")
		return s
	}
	seen := map[protocol.BatterySerial]int{}
	for i, fields := range rows[1:] {
		row := i + 2
		if strings.Join(fields, "") == "" {
			continue
		}
		b := NewBattery{BatterySerial: protocol.BatterySerial(fields[0])}
		if len(fields) > 1 {
			b.Type = fields[1]
		}
		if err := b.BatterySerial.Validate(); err != nil {
			wrong(row, SheetSerial, b.BatterySerial, "%v", err)
		} else if first, twice := seen[b.BatterySerial]; twice {
			wrong(row, SheetTwice, first, "%s is in row %d already", b.BatterySerial, first)
		}
		seen[b.BatterySerial] = row
		if len(b.Type) > maxType {
			wrong(row, SheetType, maxType, "type: %d bytes, want at most %d", len(b.Type), maxType)
		}
		if len(fields) > 2 && strings.Join(fields[2:], "") != "" {
			wrong(row, SheetCells, len(fields), "%d cells, want 2: battery_serial, type", len(fields))
		}
		s.Batteries = append(s.Batteries, b)
	}
	if len(rows) == 1 {
		wrong(2, SheetEmpty, "", "want at least one battery")
	}
	return s
}
