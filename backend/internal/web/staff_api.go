package web

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// registerStaffAPI puts what machines may see and do on the API: the console's
// pages, as JSON. What asks for a fresh code is not here, for a machine has none;
// but for orders of maintenance, which move nothing without the key switch on site.
func (w *Web) registerStaffAPI(api huma.API) {
	const root = "/api/v1/staff"
	get := http.MethodGet
	register(w, api, get, root+"/cabinets", "staff-list-cabinets", "The fleet: who needs somebody first", only(everyone...), http.StatusOK, w.apiFleet)
	register(w, api, get, root+"/cabinets/{cabinet_id}", "staff-get-cabinet", "One cabinet: slots, last records", only(everyone...), http.StatusOK, w.apiCabinet)
	register(w, api, http.MethodPost, root+"/cabinets/{cabinet_id}/slots/{slot}", "staff-set-slot", "Take a slot out of service, or put it in again",
		only(fleetWork...), http.StatusNoContent, w.apiSetSlot)
	register(w, api, http.MethodPost, root+"/cabinets/{cabinet_id}/service", "staff-set-service", "Take a cabinet out of service, or put it in again",
		only(fleetWork...), http.StatusNoContent, w.apiSetService)
	register(w, api, http.MethodPost, root+"/cabinets/{cabinet_id}/maintenance", "staff-order-maintenance",
		"Order a cabinet to begin maintenance, to open one slot, or to end: the answer is how the order stands after a few seconds; the key switch in the cabinet must be turned",
		only(onSite...), http.StatusCreated, w.apiMaintenance)
	register(w, api, get, root+"/alarms", "staff-list-alarms", "The last safety records", only(fleetWork...), http.StatusOK, w.apiAlarms)
	register(w, api, get, root+"/swaps", "staff-list-swaps", "Swaps, the newest first", only(everyone...), http.StatusOK, w.apiSwaps)
	register(w, api, get, root+"/swaps/{swap_id}", "staff-get-swap", "What happened in a swap", only(everyone...), http.StatusOK, w.apiStory)
	register(w, api, get, root+"/batteries", "staff-list-batteries", "The registry", only(fleetWork...), http.StatusOK, w.apiBatteries)
	register(w, api, get, root+"/batteries/{battery_serial}", "staff-get-battery", "Who has a battery, and who had it", only(fleetWork...), http.StatusOK, w.apiBattery)
	register(w, api, http.MethodPost, root+"/batteries/{battery_serial}/marks", "staff-mark-battery", "Flag, recall or retire a battery, or undo it",
		only(fleetWork...), http.StatusNoContent, w.apiMark)
	register(w, api, get, root+"/riders/{rider_id}", "staff-get-rider", "A rider, masked: batteries, credits, scans and why they were refused",
		only(riderView...), http.StatusOK, w.apiRiderDetail)
	register(w, api, get, root+"/credits", "staff-list-credits", "Batteries that the fleet owes", only(riderView...), http.StatusOK, w.apiCredits)
	register(w, api, get, root+"/faults", "staff-list-faults", "What riders reported", only(everyone...), http.StatusOK, w.apiFaults)
	register(w, api, get, root+"/reviews", "staff-list-reviews", "Reviews, the newest first", only(deciders...), http.StatusOK, w.apiReviews)
	register(w, api, http.MethodPost, root+"/reviews/{review_id}/decision", "staff-decide-review", "Decide a review, once", only(deciders...), http.StatusNoContent, w.apiDecide)
	w.registerStatisticsAPI(api)
	register(w, api, get, root+"/audit-log", "staff-audit-log", "What staff did, the newest first", only(staff.Admin), http.StatusOK, w.apiAuditLog)
}

// asStaffProblem turns what staff's acts answer into a problem.
func asStaffProblem(err error) error {
	if err == nil {
		return nil
	}
	status, m := failureOf(err)
	kind := strings.ReplaceAll(strings.TrimPrefix(m.Text, "no."), "_", "-")
	switch {
	case status == http.StatusServiceUnavailable:
		return &failure{Problem: problemUnavailable(), cause: err}
	case errors.Is(err, staff.ErrNotFound), errors.Is(err, ErrNotFound):
		return problemNotFound()
	case status == http.StatusUnprocessableEntity:
		p := problem(status, "invalid-request", "Invalid request", "validation failed")
		for _, line := range m.Lines {
			p.Errors = append(p.Errors, FieldError{Message: line})
		}
		return p
	default:
		p := problem(status, kind, "Not done", err.Error())
		if !m.Next.IsZero() {
			p.wait = secondsTo(m.Next)
		}
		return p
	}
}

type bodyOf[T any] struct{ Body T }

func bodied[T any](v T, err error) (*bodyOf[T], error) {
	if err != nil {
		return nil, asStaffProblem(err)
	}
	return &bodyOf[T]{v}, nil
}

type listOf[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty" doc:"Give it as below for the next page"`
}

func listed[T any](items []T, next string, err error) (*bodyOf[listOf[T]], error) {
	if items == nil {
		items = []T{}
	}
	return bodied(listOf[T]{items, next}, err)
}

func (w *Web) apiFleet(ctx context.Context, _ *struct{}) (*bodyOf[listOf[staff.Cabinet]], error) {
	all, err := w.o.Staff.Fleet(ctx)
	return listed(all, "", err)
}

func (w *Web) apiCabinet(ctx context.Context, in *cabinetInput) (*bodyOf[staff.CabinetDetail], error) {
	return bodied(w.cabinetFor(ctx, protocol.CabinetID(in.CabinetID)))
}

type serviceBody struct {
	Out    bool   `json:"out"`
	Reason string `json:"reason" minLength:"3" maxLength:"200"`
}

type setSlotInput struct {
	CabinetID string `path:"cabinet_id" pattern:"^[a-z0-9-]{4,24}$"` // not embedded: an embedded one is not read
	Slot      int    `path:"slot" minimum:"1" maximum:"48"`
	Body      serviceBody
}

func (w *Web) apiSetSlot(ctx context.Context, in *setSlotInput) (*struct{}, error) {
	return nil, asStaffProblem(w.o.Staff.SetSlot(ctx, protocol.CabinetID(in.CabinetID), in.Slot, in.Body.Out, in.Body.Reason))
}

type setServiceInput struct {
	CabinetID string `path:"cabinet_id" pattern:"^[a-z0-9-]{4,24}$"` // not embedded: an embedded one is not read
	Body      serviceBody
}

func (w *Web) apiSetService(ctx context.Context, in *setServiceInput) (*struct{}, error) {
	return nil, asStaffProblem(w.o.Staff.SetService(ctx, protocol.CabinetID(in.CabinetID), in.Body.Out, in.Body.Reason))
}

func (w *Web) apiAlarms(ctx context.Context, _ *struct{}) (*bodyOf[listOf[staff.Event]], error) {
	all, err := w.o.Staff.Alarms(ctx)
	return listed(all, "", err)
}

type listSwapsInput struct {
	CabinetID string `query:"cabinet_id" maxLength:"24"`
	RiderID   string `query:"rider_id" maxLength:"36"`
	Below     string `query:"below" maxLength:"36" doc:"The next of the page before"`
}

func (w *Web) apiSwaps(ctx context.Context, in *listSwapsInput) (*bodyOf[listOf[staff.SwapRow]], error) {
	rows, err := w.swapsOf(ctx, protocol.CabinetID(in.CabinetID), swap.RiderID(in.RiderID), protocol.SwapID(in.Below))
	next := ""
	if len(rows) == 100 {
		next = string(rows[99].SwapID)
	}
	return listed(rows, next, err)
}

func (w *Web) apiStory(ctx context.Context, in *swapInput) (*bodyOf[staff.Story], error) {
	return bodied(w.storyOf(ctx, protocol.SwapID(in.SwapID)))
}

type listBatteriesInput struct {
	Find string `query:"find" maxLength:"50" doc:"The start of a serial"`
	Mark string `query:"mark" enum:"flagged,recalled,retired"`
}

func (w *Web) apiBatteries(ctx context.Context, in *listBatteriesInput) (*bodyOf[listOf[staff.Battery]], error) {
	rows, err := w.batteriesOf(ctx, in.Find, in.Mark)
	return listed(rows, "", err)
}

type batteryInput struct {
	Serial string `path:"battery_serial" maxLength:"50"`
}

func (w *Web) apiBattery(ctx context.Context, in *batteryInput) (*bodyOf[staff.BatteryDetail], error) {
	return bodied(w.batteryOf(ctx, protocol.BatterySerial(in.Serial)))
}

type markInput struct {
	Serial string `path:"battery_serial" maxLength:"50"`
	Body   struct {
		Mark   string `json:"mark" enum:"flagged,recalled,retired"`
		On     bool   `json:"on"`
		Reason string `json:"reason" minLength:"3" maxLength:"200"`
	}
}

func (w *Web) apiMark(ctx context.Context, in *markInput) (*struct{}, error) {
	return nil, asStaffProblem(w.o.Staff.MarkBattery(ctx, protocol.BatterySerial(in.Serial), in.Body.Mark, in.Body.On, in.Body.Reason))
}

type riderInput struct {
	RiderID string `path:"rider_id" maxLength:"36"`
}

func (w *Web) apiRiderDetail(ctx context.Context, in *riderInput) (*bodyOf[staff.RiderDetail], error) {
	d, err := w.o.Staff.RiderDetail(ctx, swap.RiderID(in.RiderID))
	return bodied(impersonal(staff.Who(ctx), d), err)
}

func (w *Web) apiCredits(ctx context.Context, _ *struct{}) (*bodyOf[listOf[staff.Credit]], error) {
	rows, err := w.creditsOf(ctx)
	return listed(rows, "", err)
}

func (w *Web) apiFaults(ctx context.Context, _ *struct{}) (*bodyOf[listOf[staff.Fault]], error) {
	rows, err := w.faultsOf(ctx)
	return listed(rows, "", err)
}

// reviewBody is a review as machines list it.
type reviewBody struct {
	ReviewID     int64              `json:"review_id"`
	SwapID       protocol.SwapID    `json:"swap_id,omitempty"`
	CabinetID    protocol.CabinetID `json:"cabinet_id"`
	Reason       protocol.Reason    `json:"reason"`
	Explanations []protocol.Outcome `json:"explanations,omitempty"`
	At           time.Time          `json:"at" doc:"Of the record that made it"`
	OpenedAt     time.Time          `json:"opened_at"`
	Decision     swap.Ruling        `json:"decision,omitempty" doc:"Absent: it waits"`
	DecidedBy    string             `json:"decided_by,omitempty"`
	DecidedAt    *time.Time         `json:"decided_at,omitempty"`
}

type listReviewsInput struct {
	Open  bool  `query:"open" doc:"Only those that wait"`
	Below int64 `query:"below" doc:"The next of the page before"`
}

func (w *Web) apiReviews(ctx context.Context, in *listReviewsInput) (*bodyOf[listOf[reviewBody]], error) {
	rows, next, err := w.o.Staff.Reviews(ctx, swap.ReviewFilter{Open: in.Open}, in.Below)
	var out []reviewBody
	for _, v := range rows {
		b := reviewBody{
			ReviewID: v.ReviewID, SwapID: v.SwapID, CabinetID: v.CabinetID, Reason: v.Reason, Explanations: v.Explanations, At: v.At.UTC(), OpenedAt: v.OpenedAt.UTC(),
		}
		if v.Decided != nil {
			at := v.Decided.At.UTC()
			b.Decision, b.DecidedBy, b.DecidedAt = v.Decided.Decision, v.Decided.By, &at
		}
		out = append(out, b)
	}
	return listed(out, number(next), err)
}

type decideInput struct {
	ReviewID int64 `path:"review_id"`
	Body     struct {
		Decision  string `json:"decision" enum:"taken,returned,owed,not_deposited,noted"`
		Reason    string `json:"reason" enum:"seen_on_site,camera,records,rider,battery_found,cannot_be_told"`
		Deposited string `json:"deposited,omitempty" maxLength:"50"`
		Taken     string `json:"taken,omitempty" maxLength:"50"`
	}
}

func (w *Web) apiDecide(ctx context.Context, in *decideInput) (*struct{}, error) {
	return nil, asStaffProblem(w.o.Staff.DecideReview(ctx, swap.ReviewDecision{
		ReviewID: in.ReviewID, Decision: swap.Ruling(in.Body.Decision), Reason: swap.Ground(in.Body.Reason), By: staff.Who(ctx).Login,
		Deposited: protocol.BatterySerial(in.Body.Deposited), Taken: protocol.BatterySerial(in.Body.Taken),
	}))
}

type auditLogInput struct {
	About string `query:"about" maxLength:"100" doc:"An object or an actor"`
	Below int64  `query:"below" doc:"The next of the page before"`
}

func (w *Web) apiAuditLog(ctx context.Context, in *auditLogInput) (*bodyOf[listOf[staff.Line]], error) {
	rows, err := w.o.Staff.AuditLines(ctx, in.About, in.Below, 100)
	next := int64(0)
	if len(rows) == 100 {
		next = rows[99].No
	}
	return listed(rows, number(next), err)
}

// number is the text of a cursor, "" of none.
func number(n int64) string {
	if n == 0 {
		return ""
	}
	return strconv.FormatInt(n, 10)
}
