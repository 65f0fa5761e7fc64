package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"time"

	"batteryswap/firmware-agent/internal/config"
	"batteryswap/firmware-agent/internal/journal"
	"batteryswap/protocol"
)

// printed is one record as a line.
type printed struct {
	Epoch   protocol.Epoch  `json:"epoch"`
	Seq     uint64          `json:"seq"`
	BootSeq uint32          `json:"boot_seq"`
	MonoMS  uint64          `json:"mono_ms"`
	Wall    string          `json:"wall"`
	Synced  bool            `json:"clock_synchronised"`
	Type    string          `json:"type"`
	Hash    protocol.Hash   `json:"hash"`
	Payload json.RawMessage `json:"payload"`
}

func printJournal(s shell) error {
	out := json.NewEncoder(s.out)
	out.SetEscapeHTML(false)
	reports, err := inspect(s.arg, func(e journal.Entry) error {
		p := printed{
			Epoch: e.Epoch, Seq: e.Seq, BootSeq: e.BootSeq, MonoMS: e.MonoMS,
			Wall:   time.UnixMilli(int64(e.WallMS)).UTC().Format("2006-01-02T15:04:05.000Z"),
			Synced: e.Clock == protocol.ClockSynchronised, Type: e.Type.String(), Hash: e.Hash, Payload: e.Payload,
		}
		if !json.Valid(p.Payload) {
			p.Payload, _ = json.Marshal(string(e.Payload)) // a string always encodes
		}
		return out.Encode(p)
	})
	if err != nil {
		return err
	}
	return told(s, reports)
}

func verifyJournal(s shell) error {
	reports, err := inspect(s.arg, func(journal.Entry) error { return nil })
	if err != nil {
		return err
	}
	out := json.NewEncoder(s.out)
	for _, r := range reports {
		if err := out.Encode(r); err != nil {
			return err
		}
	}
	return told(s, reports)
}

func inspect(dir string, visit func(journal.Entry) error) ([]journal.EpochReport, error) {
	if _, err := os.Stat(dir); err != nil {
		return nil, usageError{err}
	}
	disk, err := journal.OpenDir(dir, nil)
	if err != nil {
		return nil, err
	}
	return journal.Inspect(disk, visit)
}

// told says on stderr what is wrong, if something is.
func told(s shell, reports []journal.EpochReport) error {
	var err error
	if len(reports) == 0 {
		fmt.Fprintln(s.errout, "firmware-agent: no journal here")
		err = errFailed
	}
	for _, r := range reports {
		if r.TornBytes > 0 {
			fmt.Fprintf(s.errout, "firmware-agent: epoch %s: %d bytes of a torn record after seq %d; the next boot cuts them\n", r.Epoch, r.TornBytes, r.TailSeq)
		}
		if r.Corrupt != "" {
			fmt.Fprintf(s.errout, "firmware-agent: epoch %s: corrupt after seq %d: %s\n", r.Epoch, r.TailSeq, r.Corrupt)
			err = errFailed
		}
	}
	return err
}

// keygen makes the cabinet's key. What it prints is for the backend's cabinet
// enrol.
func keygen(s shell) error {
	if s.keyFile == "" {
		return usageError{errors.New("keygen: want --out")}
	}
	pub, err := config.GenerateDeviceKey(s.keyFile)
	if err != nil {
		return err
	}
	return json.NewEncoder(s.out).Encode(struct {
		KeyID     string `json:"kid"`
		PublicKey []byte `json:"public_key"`
	}{protocol.KeyID(pub), pub})
}
