package protocol

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

// RecordType is what a journal record tells.
type RecordType uint8

// The types of record.
const (
	RecordBoot        RecordType = 1  // an agent started
	RecordSnapshot    RecordType = 2  // first of a segment: the folded state
	RecordAccept      RecordType = 3  // a grant was accepted; the inventory then
	RecordIntent      RecordType = 4  // a lock is about to be pulsed once
	RecordDoor        RecordType = 5  // a door opened or became closed during a swap
	RecordDeposit     RecordType = 6  // a battery is in, closed and judged
	RecordTaken       RecordType = 7  // a dispense slot is closed and empty: this counts
	RecordClosed      RecordType = 8  // the sensed end of a swap
	RecordVoid        RecordType = 9  // a prepared swap will never be accepted
	RecordReject      RecordType = 10 // a command was refused; at most one a minute per reason
	RecordTamper      RecordType = 11 // a door opened that nobody was granted
	RecordAlarm       RecordType = 12 // an alarm was raised or cleared
	RecordChargeCut   RecordType = 13 // charging was cut for safety
	RecordMaintenance RecordType = 14 // begin or end of maintenance
	RecordConfig      RecordType = 15 // a configuration took effect
	RecordTimeStep    RecordType = 16 // wall clock against monotonic clock
)

var recordNames = [...]string{
	1: "BOOT", "SNAPSHOT", "ACCEPT", "INTENT", "DOOR", "DEPOSIT", "TAKEN", "CLOSED", "VOID",
	"REJECT", "TAMPER", "ALARM", "CHARGE_CUT", "MAINTENANCE", "CONFIG", "TIME_STEP",
}

// Valid reports whether t is one of the types that this program knows. A newer
// agent may write others: their records are whole, and are kept.
func (t RecordType) Valid() bool { return t >= RecordBoot && t <= RecordTimeStep }

// String is the type's name in capitals.
func (t RecordType) String() string {
	if !t.Valid() {
		return fmt.Sprintf("RECORD(%d)", uint8(t))
	}
	return recordNames[t]
}

// The layout of a record, little-endian:
//
//	magic u32 | len u32 | crc32c u32 | epoch_short u32 | seq u64 | boot_seq u32 |
//	mono_ms u64 | wall_ms u64 | clock u8 | type u8 | prev_hash[16] | payload
//
// len counts the bytes after crc32c; crc32c (Castagnoli) is of those bytes.
const (
	recordMagic    = 0x31525753 // "SWR1"
	recordPrefix   = 12
	recordHeadSize = 4 + 8 + 4 + 8 + 8 + 1 + 1 + 16

	// MaxPayload bounds a record's payload, in bytes.
	MaxPayload = 16 << 10
	// MinRecord and MaxRecord bound a whole record, in bytes.
	MinRecord = recordPrefix + recordHeadSize
	MaxRecord = MinRecord + MaxPayload
)

// Record is one entry of an agent's journal.
type Record struct {
	EpochShort uint32
	Seq        uint64 // from 1, gapless in an epoch
	BootSeq    uint32
	MonoMS     uint64 // monotonic clock since boot
	WallMS     uint64 // wall clock, Unix
	Clock      ClockState
	Type       RecordType
	PrevHash   Hash // of the record before; zero for seq 1
	Payload    []byte
}

// Errors of DecodeRecord.
var (
	ErrRecordShort = errors.New("record: fewer bytes than it says")
	ErrRecordBad   = errors.New("record: damaged")
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// AppendRecord appends the record's bytes to dst.
func AppendRecord(dst []byte, r Record) ([]byte, error) {
	if len(r.Payload) > MaxPayload {
		return dst, fmt.Errorf("record %s: payload of %d bytes, want at most %d", r.Type, len(r.Payload), MaxPayload)
	}
	if r.Type == 0 || r.Seq == 0 || !r.Clock.Valid() {
		return dst, fmt.Errorf("record type %d seq %d clock %d: want a type and seq from 1 and a known clock", r.Type, r.Seq, r.Clock)
	}
	start := len(dst)
	le := binary.LittleEndian
	dst = le.AppendUint32(dst, recordMagic)
	dst = le.AppendUint32(dst, uint32(recordHeadSize+len(r.Payload)))
	dst = le.AppendUint32(dst, 0)
	dst = le.AppendUint32(dst, r.EpochShort)
	dst = le.AppendUint64(dst, r.Seq)
	dst = le.AppendUint32(dst, r.BootSeq)
	dst = le.AppendUint64(dst, r.MonoMS)
	dst = le.AppendUint64(dst, r.WallMS)
	dst = append(dst, byte(r.Clock), byte(r.Type))
	dst = append(dst, r.PrevHash[:]...)
	dst = append(dst, r.Payload...)
	le.PutUint32(dst[start+8:], crc32.Checksum(dst[start+recordPrefix:], castagnoli))
	return dst, nil
}

// DecodeRecord reads the record at the start of b and returns its length and
// hash. ErrRecordShort means that b may hold the start of a record; ErrRecordBad
// that it does not. The payload aliases b. A type that is not Valid is no damage:
// a newer agent wrote it, and the reader decides what to make of it.
func DecodeRecord(b []byte) (r Record, n int, h Hash, err error) {
	le := binary.LittleEndian
	magic := le.AppendUint32(make([]byte, 0, 4), recordMagic)
	if head := min(len(b), len(magic)); !bytes.Equal(b[:head], magic[:head]) {
		return Record{}, 0, Hash{}, fmt.Errorf("%w: magic", ErrRecordBad)
	}
	if len(b) < recordPrefix {
		return Record{}, 0, Hash{}, ErrRecordShort
	}
	size := le.Uint32(b[4:])
	if size < recordHeadSize || size > recordHeadSize+MaxPayload {
		return Record{}, 0, Hash{}, fmt.Errorf("%w: length %d", ErrRecordBad, size)
	}
	n = recordPrefix + int(size)
	if len(b) < n {
		return Record{}, 0, Hash{}, ErrRecordShort
	}
	body := b[recordPrefix:n]
	if crc32.Checksum(body, castagnoli) != le.Uint32(b[8:]) {
		return Record{}, 0, Hash{}, fmt.Errorf("%w: checksum", ErrRecordBad)
	}
	r = Record{
		EpochShort: le.Uint32(body),
		Seq:        le.Uint64(body[4:]),
		BootSeq:    le.Uint32(body[12:]),
		MonoMS:     le.Uint64(body[16:]),
		WallMS:     le.Uint64(body[24:]),
		Clock:      ClockState(body[32]),
		Type:       RecordType(body[33]),
		PrevHash:   Hash(body[34:50]),
		Payload:    body[recordHeadSize:],
	}
	if r.Type == 0 || r.Seq == 0 || !r.Clock.Valid() {
		return Record{}, 0, Hash{}, fmt.Errorf("%w: type %d seq %d clock %d", ErrRecordBad, r.Type, r.Seq, r.Clock)
	}
	sum := sha256.Sum256(body)
	copy(h[:], sum[:])
	return r, n, h, nil
}
