package web

import (
	"context"
	"errors"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"batteryswap/backend/internal/swap"
	"batteryswap/protocol"
)

// registerAPI puts /api/v1 on the mux.
func (w *Web) registerAPI(mux *http.ServeMux) {
	config := huma.DefaultConfig("Battery swap", "1")
	config.OpenAPIPath = "/api/v1/openapi"
	config.DocsPath, config.SchemasPath, config.CreateHooks = "", "", nil // nothing that loads from elsewhere
	config.Transformers = []huma.Transformer{w.transform}
	config.Info.Description = "Scans, swaps and cabinets. Every error is a problem (RFC 9457) with a stable type; a refused scan carries a reason."
	config.Components.SecuritySchemes = map[string]*huma.SecurityScheme{
		"session": {Type: "http", Scheme: "bearer", Description: "The token of POST /api/v1/sessions; its cookie does as well"},
		"token":   {Type: "http", Scheme: "bearer", Description: "A machine's token, as 'backend staff token add' prints it"},
	}
	api := humago.New(mux, config)
	w.openAPI = api.OpenAPI().YAML

	w.registerBindingAPI(api)
	register(w, api, http.MethodPost, "/api/v1/swaps", "scan", "Scan a cabinet: ask it for a swap", riders(), http.StatusCreated, w.createSwap)
	register(w, api, http.MethodGet, "/api/v1/swaps/{swap_id}", "get-swap", "One of one's own swaps", riders(), http.StatusOK, w.getSwap)
	register(w, api, http.MethodPost, "/api/v1/swaps/{swap_id}/wish", "wish", "\"I closed the door\": ask the cabinet to look again", riders(), http.StatusAccepted, w.createWish)
	register(w, api, http.MethodGet, "/api/v1/swaps/{swap_id}"+eventsSuffix, "swap-events",
		"A swap as server-sent events: event swap, id seq, data as of get-swap; Last-Event-ID is honoured", riders(), http.StatusOK, w.swapEvents)
	register(w, api, http.MethodGet, "/api/v1/cabinets", "list-cabinets", "All cabinets", anybody(), http.StatusOK, w.listCabinets)
	register(w, api, http.MethodGet, "/api/v1/cabinets/{cabinet_id}", "get-cabinet", "One cabinet with its slots", anybody(), http.StatusOK, w.getCabinet)
	register(w, api, http.MethodGet, "/api/v1/riders/me", "get-rider", "One's own account", riders(), http.StatusOK, w.getRider)

	w.registerStaffAPI(api)

	delete(api.OpenAPI().Components.Schemas.Map(), "ErrorModel") // Problem takes its place
	delete(api.OpenAPI().Components.Schemas.Map(), "ErrorDetail")
	w.handle(mux, "/api/", anybody(), func(rw http.ResponseWriter, r *http.Request) { writeProblem(rw, r, problemNotFound()) })
}

func register[I, O any](w *Web, api huma.API, method, path, id, summary string, a access, status int,
	handler func(context.Context, *I) (*O, error),
) {
	schemas := api.OpenAPI().Components.Schemas
	op := huma.Operation{
		OperationID: id, Method: method, Path: path, Summary: summary, DefaultStatus: status, MaxBodyBytes: maxBody,
		Responses: map[string]*huma.Response{"default": {
			Description: "A problem",
			Content: map[string]*huma.MediaType{"application/problem+json": {
				Schema: schemas.Schema(reflect.TypeFor[Problem](), true, "Problem"),
			}},
		}},
	}
	w.note(method, path, a)
	switch {
	case a.rider:
		op.Security = []map[string][]string{{"session": {}}}
	case len(a.roles) > 0:
		op.Security = []map[string][]string{{"token": {}}}
		op.Description = "Roles: " + roleNames(a.roles) + "."
		op.Middlewares = huma.Middlewares{w.machine(a)}
	}
	huma.Register(api, op, handler)
}

type createSwapInput struct {
	IdempotencyKey string `header:"Idempotency-Key" required:"true" minLength:"1" maxLength:"64" pattern:"^[!-~]+$" doc:"The same key answers what it answered before"`
	Body           struct {
		CabinetID string `json:"cabinet_id" pattern:"^[a-z0-9-]{4,24}$"`
		Presence  string `json:"presence,omitempty" maxLength:"32" doc:"The code on the cabinet's screen, for a battery that is owed or issued"`
		HandBack  bool   `json:"hand_back,omitempty" doc:"Deposit a battery and take none"`
	}
}

type swapOutput struct{ Body swapBody }

func (w *Web) createSwap(ctx context.Context, in *createSwapInput) (*swapOutput, error) {
	rider, err := w.apiRider(ctx)
	if err != nil {
		return nil, err
	}
	v, refusal, err := w.scan(ctx, swap.Scan{
		RiderID: rider, CabinetID: protocol.CabinetID(in.Body.CabinetID), Presence: in.Body.Presence,
		HandBack: in.Body.HandBack, IdempotencyKey: in.IdempotencyKey,
	})
	switch {
	case err != nil:
		return nil, asProblem(err)
	case refusal != nil:
		return nil, problemRefused(*refusal)
	}
	return &swapOutput{swapJSON(v)}, nil
}

type swapInput struct {
	SwapID string `path:"swap_id" maxLength:"36"`
}

func (w *Web) getSwap(ctx context.Context, in *swapInput) (*swapOutput, error) {
	v, err := w.ownSwap(ctx, in.SwapID)
	if err != nil {
		return nil, err
	}
	return &swapOutput{swapJSON(v)}, nil
}

// ownSwap is a swap of who asks; a swap of anybody else is not found.
func (w *Web) ownSwap(ctx context.Context, id string) (swap.View, error) {
	rider, err := w.apiRider(ctx)
	if err != nil {
		return swap.View{}, err
	}
	if protocol.SwapID(id).Validate() != nil {
		return swap.View{}, problemNotFound()
	}
	v, err := w.o.Books.Swap(ctx, rider, protocol.SwapID(id))
	return v, asProblem(err)
}

func (w *Web) apiRider(ctx context.Context) (swap.RiderID, error) {
	rider, err := w.rider(ctx)
	if errors.Is(err, ErrNotFound) {
		return "", problemUnauthorized()
	}
	return rider, asProblem(err)
}

type wishInput struct {
	SwapID string `path:"swap_id" maxLength:"36"`
	Body   struct {
		What string `json:"what" enum:"recheck"`
	}
}

func (w *Web) createWish(ctx context.Context, in *wishInput) (*struct{}, error) {
	v, err := w.ownSwap(ctx, in.SwapID)
	if err != nil {
		return nil, err
	}
	if v.State == swap.StateClosed {
		return nil, problem(http.StatusConflict, "swap-closed", "Swap closed", "the swap has ended")
	}
	return nil, asProblem(w.o.Books.Wish(ctx, v.CabinetID, v.SwapID))
}

type listCabinetsInput struct {
	After string `query:"after" maxLength:"24" doc:"The next of the page before"`
	Limit int    `query:"limit" default:"100" minimum:"1" maximum:"500"`
}

type listCabinetsOutput struct {
	Body struct {
		Cabinets []cabinetBody `json:"cabinets"`
		Next     string        `json:"next,omitempty" doc:"Give it as after for the next page"`
	}
}

func (w *Web) listCabinets(ctx context.Context, in *listCabinetsInput) (*listCabinetsOutput, error) {
	all, err := w.o.Books.Cabinets(ctx)
	if err != nil {
		return nil, asProblem(err)
	}
	slices.SortFunc(all, func(a, b swap.CabinetView) int { return strings.Compare(string(a.CabinetID), string(b.CabinetID)) })
	out := &listCabinetsOutput{}
	out.Body.Cabinets = []cabinetBody{}
	for _, c := range all {
		if string(c.CabinetID) <= in.After {
			continue
		}
		if n := len(out.Body.Cabinets); n == in.Limit {
			out.Body.Next = string(out.Body.Cabinets[n-1].CabinetID)
			break
		}
		out.Body.Cabinets = append(out.Body.Cabinets, cabinetJSON(c))
	}
	return out, nil
}

type cabinetInput struct {
	CabinetID string `path:"cabinet_id" pattern:"^[a-z0-9-]{4,24}$"`
}

type cabinetOutput struct{ Body cabinetBody }

func (w *Web) getCabinet(ctx context.Context, in *cabinetInput) (*cabinetOutput, error) {
	c, err := w.o.Books.Cabinet(ctx, protocol.CabinetID(in.CabinetID))
	if err != nil {
		return nil, asProblem(err)
	}
	return &cabinetOutput{cabinetDetailJSON(c)}, nil
}

type riderOutput struct{ Body riderBody }

func (w *Web) getRider(ctx context.Context, _ *struct{}) (*riderOutput, error) {
	rider, err := w.apiRider(ctx)
	if err != nil {
		return nil, err
	}
	v, err := w.o.Books.Rider(ctx, rider)
	if err != nil {
		return nil, asProblem(err)
	}
	return &riderOutput{riderJSON(v)}, nil
}
