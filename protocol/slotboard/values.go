package slotboard

// The words of a map: unsigned and signed numbers with their "unknown" markers,
// text and dates. Multi-word values have the high word first.

func words(v uint32) (high, low uint16) { return uint16(v >> 16), uint16(v) }

func long(high, low uint16) uint32 { return uint32(high)<<16 | uint32(low) }

// unsigned16 gives v in steps of step, or the marker.
func unsigned16(v Value, step int32) uint16 {
	if n := v.N / step; v.Known && v.N >= 0 && n < int32(unknown16) {
		return uint16(n)
	}
	return unknown16
}

func value16(r uint16, step int32) Value {
	if r == unknown16 {
		return Value{}
	}
	return Known(int32(r) * step)
}

func signed16(v Value) uint16 {
	if v.Known && v.N >= -1<<15 && v.N < int32(unknownSigned16) {
		return uint16(int16(v.N))
	}
	return unknownSigned16
}

func valueSigned16(r uint16) Value {
	if r == unknownSigned16 {
		return Value{}
	}
	return Known(int32(int16(r)))
}

func unsigned32(v Value) (high, low uint16) {
	if v.Known && v.N >= 0 {
		return words(uint32(v.N))
	}
	return unknown16, unknown16
}

// value32 takes any number that the high word marks, or that no battery can
// have, as unknown.
func value32(high, low uint16) Value {
	if high >= 1<<15 {
		return Value{}
	}
	return Known(int32(long(high, low)))
}

func signed32(v Value) (high, low uint16) {
	if v.Known && v.N < int32(long(unknownSigned16, 0)) {
		return words(uint32(v.N))
	}
	return unknownSigned16, unknown16
}

func valueSigned32(high, low uint16) Value {
	if high == unknownSigned16 {
		return Value{}
	}
	return Known(int32(long(high, low)))
}

// putText writes s, two characters a register, padded with NUL. A text that is
// too long or not printable is left out: no text is better than a wrong one.
func putText(registers []uint16, s string) {
	if len(s) > 2*len(registers) || !printable(s) {
		s = ""
	}
	for i := range registers {
		registers[i] = uint16(at(s, 2*i))<<8 | uint16(at(s, 2*i+1))
	}
}

func at(s string, i int) byte {
	if i < len(s) {
		return s[i]
	}
	return 0
}

// text reads what putText wrote. Anything but printable characters followed by
// NULs is no text.
func text(registers []uint16) string {
	raw := make([]byte, 0, 2*len(registers))
	for _, r := range registers {
		raw = append(raw, byte(r>>8), byte(r))
	}
	for len(raw) > 0 && raw[len(raw)-1] == 0 {
		raw = raw[:len(raw)-1]
	}
	if !printable(string(raw)) {
		return ""
	}
	return string(raw)
}

func printable(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// Dates: day in bits 0 to 4, month in 5 to 8, year less 2000 in 9 to 15.
const (
	firstYear = 2000
	lastYear  = firstYear + 127
)

func (d Date) register() uint16 {
	if d.Year < firstYear || d.Year > lastYear || d.Month < 1 || d.Month > 12 || d.Day < 1 || d.Day > 31 {
		return unknown16
	}
	return uint16(d.Year-firstYear)<<9 | uint16(d.Month)<<5 | uint16(d.Day)
}

func date(r uint16) Date {
	d := Date{Year: firstYear + int(r>>9), Month: int(r >> 5 & 0xF), Day: int(r & 0x1F)}
	if d.register() != r || r == unknown16 {
		return Date{}
	}
	return d
}
