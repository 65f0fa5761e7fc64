package web

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/danielgtaylor/huma/v2"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// problemRoot starts the type of every problem. What follows never changes its
// meaning.
const problemRoot = "urn:batteryswap:problem:"

// Problem is an error of the API (RFC 9457).
type Problem struct {
	Type   string `json:"type" doc:"What kind of problem this is; stable"`
	Title  string `json:"title" doc:"The kind in words"`
	Status int    `json:"status" doc:"The HTTP status"`
	Detail string `json:"detail,omitempty" doc:"This occurrence in words"`
	// Reason is of the closed list of protocol.Reasons.
	Reason protocol.Reason `json:"reason,omitempty" doc:"Why a scan was refused"`
	// SwapID is the rider's other swap, for the reason swap_open.
	SwapID    protocol.SwapID `json:"swap_id,omitempty" doc:"The rider's other open swap"`
	Errors    []FieldError    `json:"errors,omitempty" doc:"What is wrong with the request, field by field"`
	RequestID string          `json:"request_id,omitempty" doc:"Names this request in the backend's log"`

	wait int // s, for Retry-After; 0: the usual
}

// retryAfter is the value of the header, "" where trying again is of no use.
func (p *Problem) retryAfter() string {
	switch {
	case p.wait > 0:
		return strconv.Itoa(p.wait)
	case p.Status == http.StatusServiceUnavailable || p.Status == http.StatusTooManyRequests:
		return retryAfter
	}
	return ""
}

// FieldError says what is wrong with one field.
type FieldError struct {
	Location string `json:"location,omitempty" doc:"As body.cabinet_id or header.Idempotency-Key"`
	Message  string `json:"message" doc:"What was expected"`
}

// Error implements error.
func (p *Problem) Error() string { return p.Title + ": " + p.Detail }

// GetStatus is for huma.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType is for huma.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

func problem(status int, kind, title, detail string) *Problem {
	return &Problem{Type: problemRoot + kind, Title: title, Status: status, Detail: detail}
}

func problemNotFound() *Problem {
	return problem(http.StatusNotFound, "not-found", "Not found", "there is no such thing here")
}

func problemUnauthorized() *Problem {
	return problem(http.StatusUnauthorized, "sign-in-required", "Sign-in required",
		"want a session: POST /api/v1/sessions, then Authorization: Bearer TOKEN or its cookie")
}

func problemUnavailable() *Problem {
	return problem(http.StatusServiceUnavailable, "unavailable", "Unavailable", "the backend cannot answer now; try again")
}

func problemRefused(r swap.Refusal) *Problem {
	p := problem(refusalStatus(r.Reason), "scan-refused", "Scan refused", "the scan was refused: "+string(r.Reason))
	p.Reason, p.SwapID = r.Reason, r.SwapID
	return p
}

// refusalStatus is the HTTP status of a refused scan.
func refusalStatus(r protocol.Reason) int {
	switch r {
	case protocol.ReasonCabinetUnknown:
		return http.StatusNotFound
	case protocol.ReasonRiderNotActive, protocol.ReasonNoBattery, protocol.ReasonPresence:
		return http.StatusForbidden
	case protocol.ReasonTooManyScans:
		return http.StatusTooManyRequests
	case protocol.ReasonCabinetOffline, protocol.ReasonOutOfService, protocol.ReasonAlarm, protocol.ReasonRecovering,
		protocol.ReasonMaintenance:
		return http.StatusServiceUnavailable
	default:
		return http.StatusConflict
	}
}

// asProblem turns what the books answer into a problem.
func asProblem(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrNotFound):
		return problemNotFound()
	case errors.Is(err, ErrKeyReused):
		p := problem(http.StatusUnprocessableEntity, "key-reused", "Idempotency key reused", "want a new key for a new scan")
		p.Errors = []FieldError{{Location: "header.Idempotency-Key", Message: err.Error()}}
		return p
	case errors.Is(err, ErrCabinetOffline):
		p := problemUnavailable()
		p.Detail, p.Reason = err.Error(), protocol.ReasonCabinetOffline
		return p
	default:
		return &failure{Problem: problemUnavailable(), cause: err}
	}
}

// failure is a problem whose cause is for the log only.
type failure struct {
	*Problem
	cause error
}

func (f *failure) Unwrap() error { return f.cause }

// transform gives huma's own errors our shape and every problem its request. It
// never echoes what was sent: a code or a token may be in it.
func (w *Web) transform(ctx huma.Context, _ string, v any) (any, error) {
	var p *Problem
	switch e := v.(type) {
	case *huma.ErrorModel:
		p = fromHuma(e)
	case *failure:
		p = e.Problem
		requestFrom(ctx.Context()).cause = e.cause
	case *Problem:
		p = e
	default:
		return v, nil
	}
	info := requestFrom(ctx.Context())
	info.problem = p
	out := *p
	out.RequestID = info.id
	if after := p.retryAfter(); after != "" {
		ctx.SetHeader("Retry-After", after)
	}
	return &out, nil
}

func fromHuma(e *huma.ErrorModel) *Problem {
	kind, title := "invalid-request", "Invalid request"
	switch e.Status {
	case http.StatusRequestEntityTooLarge:
		kind, title = "body-too-large", "Body too large"
	case http.StatusUnsupportedMediaType, http.StatusNotAcceptable:
		kind, title = "media-type", "Media type"
	case http.StatusRequestTimeout:
		kind, title = "too-slow", "Too slow"
	case http.StatusInternalServerError:
		kind, title = "internal", "Internal error"
	}
	p := problem(e.Status, kind, title, e.Detail)
	for _, d := range e.Errors {
		if d != nil {
			p.Errors = append(p.Errors, FieldError{Location: d.Location, Message: d.Message})
		}
	}
	return p
}

// writeProblem answers outside of huma.
func writeProblem(rw http.ResponseWriter, r *http.Request, p *Problem) {
	info := requestFrom(r.Context())
	info.problem = p
	out := *p
	out.RequestID = info.id
	rw.Header().Set("Content-Type", "application/problem+json")
	if after := p.retryAfter(); after != "" {
		rw.Header().Set("Retry-After", after)
	}
	rw.WriteHeader(p.Status)
	_ = json.NewEncoder(rw).Encode(out) // the client is gone: nobody to tell
}
