package web

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"batteryswap/backend/internal/binding"
	numbers "batteryswap/backend/internal/phone"
	"batteryswap/backend/internal/swap"
)

// Devices are the sessions of a rider.
func (f *fakeBooks) Devices(_ context.Context, rider swap.RiderID, hash []byte) ([]binding.Device, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var all []binding.Device
	for token, of := range f.sessions {
		if of == rider {
			at := time.Date(2026, 3, 1, 8, 0, 0, 0, time.UTC)
			all = append(all, binding.Device{
				ID: fmt.Sprintf("%x", token)[:16], Browser: binding.Browser{App: "wechat", System: "Android"}, FirstSeen: at, LastSeen: at, Here: token == string(hash),
			})
		}
	}
	slices.SortFunc(all, func(a, b binding.Device) int {
		if a.Here {
			return -1
		}
		return 1
	})
	return all, f.down
}

func (f *fakeBooks) EndDevice(_ context.Context, rider swap.RiderID, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for token, of := range f.sessions {
		if of == rider && fmt.Sprintf("%x", token)[:16] == id {
			f.act("end device")
			delete(f.sessions, token)
			return f.down
		}
	}
	return ErrNotFound
}

func (f *fakeBooks) EndOtherDevices(_ context.Context, rider swap.RiderID, hash []byte) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.act("end others")
	for token, of := range f.sessions {
		if of == rider && token != string(hash) {
			delete(f.sessions, token)
		}
	}
	return f.down
}

const (
	phoneA  = numbers.Number("15400000001")
	memberA = "HZ-0001"
)

// fakeSignIn knows the phone of rider A.
type fakeSignIn struct {
	books  *fakeBooks
	mu     sync.Mutex
	silent bool // sends no codes
	sent   []string
	err    error
	proofs []binding.Proof
	last   binding.Session
}

func (s *fakeSignIn) SendsCodes() bool { return !s.silent }

func (s *fakeSignIn) SendCode(_ context.Context, n numbers.Number, address, language string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	s.sent = append(s.sent, string(n)+" "+address+" "+language)
	return nil
}

func (s *fakeSignIn) Bind(_ context.Context, p binding.Proof, n binding.Session) (swap.RiderID, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.proofs, s.last = append(s.proofs, p), n
	switch {
	case s.err != nil:
		return "", s.err
	case (p.Phone == phoneA || p.MembershipNo == memberA) && (p.Digits() == "123456" || p.Digits() == "12345678"):
		s.books.mu.Lock()
		defer s.books.mu.Unlock()
		s.books.sessions[string(n.TokenHash)] = riderA
		return riderA, nil
	}
	return "", binding.ErrWrong
}

func (s *fakeSignIn) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.err = err
}

// bindingSite has no development code: riders bind.
func bindingSite(t *testing.T) (*site, *fakeSignIn) {
	s := newSite(t).placed()
	f := &fakeSignIn{books: s.books}
	s.web.o.DevelopmentCode, s.web.o.SignIn, s.web.o.RetentionMonths = "", f, 13
	return s, f
}

// knownFields are fields of other forms of riders: what a report or a search asks.
func knownFields() map[string]bool {
	return map[string]bool{"kind": true, "text": true, "slot": true, "swap_id": true, "lang": true, "what": true}
}
