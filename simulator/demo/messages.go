package demo

import (
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"batteryswap/simulator/process"
	"batteryswap/simulator/rider"
)

// inbox is the union's gateway for text messages, and the phones behind it: what
// the backend sends is signed, and arrives at once.
type inbox struct {
	secret []byte
	url    string
	now    func() time.Time

	mu    sync.Mutex
	codes map[string]string // the last of each number that was not used
	tell  func(number, code string)
}

// Bounds of a message.
const (
	maxMessage    = 4 << 10
	maxMessageAge = 5 * time.Minute // README: what is older is refused
	secretLetters = 52
)

// message is what the backend sends.
type message struct {
	Kind  string `json:"kind"`
	Phone string `json:"phone"`
	Code  string `json:"code"`
}

func newInbox() *inbox {
	return &inbox{secret: []byte((rand.Text() + rand.Text())[:secretLetters]), now: time.Now, codes: map[string]string{}}
}

// ServeHTTP takes a message.
func (b *inbox) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(rw, r.Body, maxMessage))
	if err != nil {
		http.Error(rw, "too long", http.StatusRequestEntityTooLarge)
		return
	}
	var m message
	switch {
	case !b.signed(r.Header.Get("Swap-Timestamp"), body, r.Header.Get("Swap-Signature")):
		http.Error(rw, "not signed", http.StatusForbidden)
		return
	case json.Unmarshal(body, &m) != nil || m.Kind != "binding_code" || m.Phone == "":
		http.Error(rw, "want a binding_code", http.StatusBadRequest)
		return
	}
	b.mu.Lock()
	fresh := b.codes[m.Phone] != m.Code
	b.codes[m.Phone] = m.Code
	tell := b.tell
	b.mu.Unlock()
	if tell != nil && fresh {
		tell(m.Phone, m.Code)
	}
	rw.WriteHeader(http.StatusNoContent)
}

func (b *inbox) signed(timestamp string, body []byte, signature string) bool {
	at, err := strconv.ParseInt(timestamp, 10, 64)
	if err != nil || b.now().Sub(time.Unix(at, 0)).Abs() > maxMessageAge {
		return false
	}
	h := hmac.New(sha256.New, b.secret)
	h.Write([]byte(timestamp + "."))
	h.Write(body)
	return hmac.Equal([]byte("sha256="+hex.EncodeToString(h.Sum(nil))), []byte(signature))
}

// last is the last code that was sent to a number, "" for none.
func (b *inbox) last(number string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.codes[number]
}

// Code implements rider.Inbox.
func (b *inbox) Code(ctx context.Context, number string) (string, error) {
	code := ""
	err := process.Until(ctx, 50*time.Millisecond, "no message has come", func() (bool, error) {
		code = b.last(number)
		return code != "", nil
	})
	return code, err
}

// Used implements rider.Inbox.
func (b *inbox) Used(number, code string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.codes[number] == code {
		delete(b.codes, number)
	}
}

// onMessage calls tell for each further code that is sent to a number.
func (b *inbox) onMessage(number string, tell func(code string)) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.tell = func(to, code string) {
		if to == number {
			tell(code)
		}
	}
}

func (s *stage) secretFile() string { return filepath.Join(s.dir, "gateway.secret") }

// startInbox listens for messages on the loopback interface.
func (s *stage) startInbox(context.Context) error {
	s.inbox = newInbox()
	if err := os.WriteFile(s.secretFile(), s.inbox.secret, 0o600); err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s.inbox.url = "http://" + l.Addr().String() + "/"
	server := &http.Server{Handler: s.inbox, ReadHeaderTimeout: 5 * time.Second}
	var served sync.WaitGroup
	served.Go(func() {
		if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			s.log.Error("the gateway for messages ended", "err", err)
		}
	})
	s.onClose(func() error {
		err := server.Close()
		served.Wait()
		return err
	})
	return nil
}

// number is the phone of the i-th rider, from 0. No network has numbers of 154. In a
// database that is kept they differ from those of the demos before.
func (s *stage) number(i int) string { return fmt.Sprintf("154%05d%03d", s.started%100_000, i+1) }

// member is how the i-th rider's phone binds itself. Each comes from an address of
// its own: the replicas believe us.
func (s *stage) member(i int) rider.Member {
	return rider.Member{Number: s.number(i), Inbox: s.inbox, Address: fmt.Sprintf("100.64.%d.%d", i/250, i%250+1)}
}

// Bounds of binding all phones.
const (
	bindTimeout = 2 * time.Minute
	bindAtOnce  = 8
)

// bindPhones binds the riders' phones. That of the person before the screen is
// bound by hand.
func (s *stage) bindPhones(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, bindTimeout)
	defer cancel()
	places := make(chan struct{}, bindAtOnce)
	errs := make([]error, s.o.Riders)
	var all sync.WaitGroup
	for i := range s.o.Riders {
		r := s.replicas[i%len(s.replicas)]
		s.riders[i].phone = rider.NewMember(r.url, s.member(i), s.http)
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			errs[i] = s.riders[i].phone.Bind(ctx)
		})
	}
	all.Wait()
	return errors.Join(errs...)
}
