package web

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"batteryswap/backend/internal/swap"
)

const (
	eventsSuffix = "/events"
	// maxStreams bounds the open event streams of one backend.
	maxStreams = 4096
	// maxStreamLife ends a stream; the browser opens the next by itself.
	maxStreamLife = 15 * time.Minute
	// heartbeat keeps middle boxes from closing a silent stream.
	heartbeat          = 15 * time.Second
	streamWriteTimeout = 10 * time.Second
)

type eventsInput struct {
	SwapID      string `path:"swap_id" maxLength:"36"`
	LastEventID string `header:"Last-Event-ID" maxLength:"20" doc:"Events up to this one are not sent again"`
}

func (w *Web) swapEvents(ctx context.Context, in *eventsInput) (*huma.StreamResponse, error) {
	v, err := w.ownSwap(ctx, in.SwapID)
	if err != nil {
		return nil, err
	}
	last, seen := uint64(0), false
	if in.LastEventID != "" {
		if last, err = strconv.ParseUint(in.LastEventID, 10, 64); err != nil {
			p := problem(http.StatusBadRequest, "invalid-request", "Invalid request", "validation failed")
			p.Errors = []FieldError{{Location: "header.Last-Event-ID", Message: "expected the id of an event: digits"}}
			return nil, p
		}
		seen = true
	}
	if seen && v.State == swap.StateClosed && v.Seq <= last {
		// Nothing more will come: 204 stops a browser from asking again.
		return &huma.StreamResponse{Body: func(c huma.Context) { c.SetStatus(http.StatusNoContent) }}, nil
	}
	select {
	case w.streams <- struct{}{}:
	default:
		return nil, problemUnavailable()
	}
	return &huma.StreamResponse{Body: func(c huma.Context) {
		defer func() { <-w.streams }()
		r, rw := humago.Unwrap(c)
		s := &stream{w: w, rw: rw, control: http.NewResponseController(rw), last: last, seen: seen}
		s.run(r.Context(), v)
	}}, nil
}

// stream is one open event stream.
type stream struct {
	w       *Web
	rw      http.ResponseWriter
	control *http.ResponseController
	last    uint64 // the newest event that the client has
	seen    bool   // it has one at all
	quiet   bool   // that event said that the cabinet is not reachable
}

func (s *stream) run(ctx context.Context, v swap.View) {
	ctx, cancel := context.WithTimeout(ctx, maxStreamLife)
	defer cancel()
	s.rw.Header().Set("Content-Type", "text/event-stream")
	s.rw.Header().Set("X-Accel-Buffering", "no")
	s.rw.WriteHeader(http.StatusOK)
	changed, stop := s.w.o.Books.Watch(v.SwapID)
	defer stop()
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	if s.write("retry: 2000\n\n") != nil {
		return
	}
	for {
		var again <-chan time.Time
		now, err := s.w.o.Books.Swap(ctx, v.RiderID, v.SwapID)
		switch {
		case err != nil: // nobody will say again that it has changed
			again = time.After(reread)
		case s.show(now) != nil, now.State == swap.StateClosed:
			return
		}
		select {
		case <-changed:
		case <-again:
		case <-beat.C:
			if s.write(": still here\n\n") != nil {
				return
			}
		case <-ctx.Done():
			return
		case <-s.w.o.Closing:
			return
		}
	}
}

// show sends a view unless the client has it.
func (s *stream) show(v swap.View) error {
	if s.seen && v.Seq <= s.last && s.quiet == !v.Reachable {
		return nil
	}
	data, err := json.Marshal(swapJSON(v))
	if err != nil {
		return fmt.Errorf("encode swap: %w", err)
	}
	s.last, s.seen, s.quiet = v.Seq, true, !v.Reachable
	return s.write(fmt.Sprintf("id: %d\nevent: swap\ndata: %s\n\n", v.Seq, data))
}

func (s *stream) write(text string) error {
	_ = s.control.SetWriteDeadline(time.Now().Add(streamWriteTimeout))
	if _, err := s.rw.Write([]byte(text)); err != nil {
		return err
	}
	return s.control.Flush()
}
