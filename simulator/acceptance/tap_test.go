package acceptance

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const (
	// slowRoundTrip is what a phone's network adds.
	slowRoundTrip = 100 * time.Millisecond
	tapRiders     = 20
	tapCabinets   = 10
	// maxTapToSlot is how long a rider in the rain waits, of twenty the slowest
	// but one.
	maxTapToSlot = 2 * time.Second
)

// BenchmarkTapToSlot is what a rider waits from the tap on "swap" until the page
// says which door to use, by the page's own requests over a network that adds
// 100 ms to each round trip: 20 riders at 10 cabinets, two at each.
func BenchmarkTapToSlot(b *testing.B) {
	s := newStage(b, false)
	r := s.startReplica()
	address := slowLine(b, strings.TrimPrefix(r.url, "http://"), slowRoundTrip/2)
	for range tapCabinets {
		c := s.newCabinet(6, 3)
		c.extraConfig = "limits: {max_pulses_per_hour: 600}\n"
		c.startBoards()
		c.startAgent()
	}
	for _, c := range s.cabinets {
		c.heard(3)
	}
	var mu sync.Mutex
	var waits []time.Duration
	var riders sync.WaitGroup
	b.ResetTimer()
	for i := range tapRiders {
		id, _ := s.newRider()
		p := newTapper(b, s, s.cabinets[i%tapCabinets], id, "http://"+address)
		riders.Go(func() {
			for range b.N {
				wait, err := p.swap()
				if err != nil {
					b.Error(err)
					return
				}
				mu.Lock()
				waits = append(waits, wait)
				mu.Unlock()
			}
		})
	}
	riders.Wait()
	slices.Sort(waits)
	require.NotEmpty(b, waits)
	p95 := waits[len(waits)*95/100]
	b.ReportMetric(waits[len(waits)/2].Seconds(), "s-p50")
	b.ReportMetric(p95.Seconds(), "s-p95")
	b.ReportMetric(float64(len(waits)), "taps")
	b.ReportMetric(0, "ns/op")
	require.LessOrEqual(b, p95, maxTapToSlot)
}

// slowLine forwards a port, and keeps every byte for a while in each direction.
func slowLine(t testing.TB, to string, delay time.Duration) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			near, err := l.Accept()
			if err != nil {
				return
			}
			far, err := net.Dial("tcp", to)
			if err != nil {
				near.Close()
				continue
			}
			go keepBack(far, near, delay)
			go keepBack(near, far, delay)
		}
	}()
	return l.Addr().String()
}

// keepBack copies, each piece so much later.
func keepBack(to, from net.Conn, delay time.Duration) {
	type piece struct {
		at    time.Time
		bytes []byte
	}
	pieces := make(chan piece, 1024)
	go func() {
		defer to.Close()
		for p := range pieces {
			<-time.After(time.Until(p.at))
			if _, err := to.Write(p.bytes); err != nil {
				from.Close()
			}
		}
	}()
	defer close(pieces)
	for {
		buf := make([]byte, 32<<10)
		n, err := from.Read(buf)
		if n > 0 {
			pieces <- piece{time.Now().Add(delay), buf[:n]}
		}
		if err != nil {
			return
		}
	}
}

// tapper is a phone's browser and its rider's hands.
type tapper struct {
	s       *stage
	c       *cabinet
	id      string
	base    string
	browser *http.Client
}

func newTapper(t testing.TB, s *stage, c *cabinet, id, base string) *tapper {
	t.Helper()
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	p := &tapper{s: s, c: c, id: id, base: base, browser: &http.Client{Jar: jar, Timeout: patience, Transport: &http.Transport{}}}
	_, _, err = p.post("/c/"+c.id+"/sign-in", url.Values{"rider_id": {id}, "code": {riderCode}, "privacy": {"yes"}})
	require.NoError(t, err)
	return p
}

func (p *tapper) post(path string, form url.Values) (at, page string, err error) {
	r, err := http.NewRequest(http.MethodPost, p.base+path, strings.NewReader(form.Encode()))
	if err != nil {
		return "", "", err
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	return p.do(r)
}

func (p *tapper) get(path string) (at, page string, err error) {
	r, err := http.NewRequest(http.MethodGet, p.base+path, nil)
	if err != nil {
		return "", "", err
	}
	return p.do(r)
}

func (p *tapper) do(r *http.Request) (at, page string, err error) {
	resp, err := p.browser.Do(r)
	if err != nil {
		return "", "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return resp.Request.URL.Path, string(b), err
}

var keyInForm = regexp.MustCompile(`name="key" value="([^"]+)"`)

// swap taps until it is granted, and gives the wait of the tap that was.
func (p *tapper) swap() (time.Duration, error) {
	ctx, cancel := context.WithTimeout(p.s.t.Context(), 5*time.Minute)
	defer cancel()
	for ctx.Err() == nil {
		_, page, err := p.get("/c/" + p.c.id)
		if err != nil {
			return 0, err
		}
		key := keyInForm.FindStringSubmatch(page)
		if key == nil {
			<-time.After(time.Second) // the swap before is not closed yet
			continue
		}
		began := time.Now()
		at, page, err := p.post("/c/"+p.c.id+"/swaps", url.Values{"key": {key[1]}})
		if err != nil {
			return 0, err
		}
		if !strings.Contains(at, "/swaps/0") {
			<-time.After(time.Second) // busy: the other rider swaps
			continue
		}
		if err := p.watch(ctx, at, page); err != nil {
			return 0, err
		}
		waited := time.Since(began)
		return waited, p.hands(ctx)
	}
	return 0, errors.New("never granted")
}

// watch follows the page as its script does, until it shows a slot.
func (p *tapper) watch(ctx context.Context, at, page string) error {
	const digits = `class="panel slot `
	if strings.Contains(page, digits) {
		return nil
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, p.base+"/api/v1/swaps/"+at[strings.LastIndex(at, "/")+1:]+"/events", nil)
	if err != nil {
		return err
	}
	resp, err := p.browser.Do(r)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		if !strings.HasPrefix(lines.Text(), "data:") {
			continue
		}
		if _, page, err = p.get(at + "/live"); err != nil || strings.Contains(page, digits) {
			return err
		}
	}
	return errors.New("the stream ended before a slot was shown")
}

// hands do what the doors want until the rider holds another battery.
func (p *tapper) hands(ctx context.Context) error {
	own := p.s.world.Hands(p.id)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
		for _, v := range p.s.world.View(p.s.now(), p.c.id) {
			held := p.s.world.Hands(p.id)
			switch {
			case !v.DoorOpen:
				continue
			case v.Serial == "" && len(held) > 0:
				if err := p.s.world.Insert(p.s.now(), p.id, p.c.id, v.Slot, held[0], true); err != nil {
					return err
				}
			case v.Serial != "" && !slices.Contains(own, v.Serial):
				if _, err := p.s.world.Take(p.s.now(), p.id, p.c.id, v.Slot); err != nil {
					return err
				}
			}
			if err := p.s.world.CloseDoor(p.s.now(), p.id, p.c.id, v.Slot); err != nil {
				return err
			}
			if held := p.s.world.Hands(p.id); len(held) > 0 && !slices.Contains(own, held[0]) {
				return nil
			}
		}
	}
}
