package web

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"batteryswap/backend/internal/staff"
	"batteryswap/backend/internal/statistics"
)

// figureBody is a figure as the API gives it.
type figureBody struct {
	From       string      `json:"from" format:"date" doc:"First Asia/Shanghai day"`
	To         string      `json:"to" format:"date" doc:"Last Asia/Shanghai day, included"`
	By         string      `json:"by" enum:"total,day,hour,street,cabinet,union,platform,rider"`
	AsOf       int64       `json:"as_of" doc:"Position of the ledger. The same question with it has the same answer for ever"`
	Swaps      int         `json:"swaps" doc:"Takes of swaps that ended swapped or owed_taken, on the day of the take, at the taking cabinet"`
	Days       int         `json:"days" doc:"Calendar days from from to to"`
	PerDay     int         `json:"per_day" doc:"swaps by days, rounded half up"`
	LaterSwaps int         `json:"later_swaps" doc:"Of these days, and booked after as_of: not among swaps"`
	Ungrouped  int         `json:"ungrouped_swaps" doc:"Among swaps, and in no group of a breakdown by union or platform: counted after their month was closed, or not when they were booked"`
	Riders     *int        `json:"riders,omitempty" doc:"With by union, platform and rider, unless they are fewer than ten; not of several closed months"`
	Groups     []groupBody `json:"groups"`
}

type groupBody struct {
	Key    string `json:"key" doc:"A day; WEEKDAY/HOUR, Monday is 1; a street; a cabinet_id; union_ids from the top down, with slashes, - for who belongs to the body itself; a platform; a rider_id"`
	Name   string `json:"name,omitempty" doc:"As it is called now"`
	Level  string `json:"level,omitempty" enum:"city,district,street,branch" doc:"Of a union's body"`
	Swaps  *int   `json:"swaps,omitempty" doc:"Absent: hidden"`
	Riders *int   `json:"riders,omitempty"`
	Hidden bool   `json:"hidden,omitempty" doc:"It has fewer than ten riders, or would give such a group away"`
}

type figureInput struct {
	From   string `query:"from" required:"true" format:"date" doc:"First Asia/Shanghai day"`
	To     string `query:"to" required:"true" format:"date" doc:"Last one, included; five years at most"`
	By     string `query:"by" enum:"total,day,hour,street,cabinet,union,platform,rider" default:"total" doc:"rider needs the role personal. union and platform without it are of whole months that ended three days ago or earlier, which do not change any more"`
	AsOf   int64  `query:"as_of" minimum:"0" doc:"Absent: now"`
	Street string `query:"street" maxLength:"100" doc:"With by=cabinet alone: figure and groups are of this street"`
}

// registerStatisticsAPI puts the union's figures on the API.
func (w *Web) registerStatisticsAPI(api huma.API) {
	register(w, api, http.MethodGet, "/api/v1/statistics/swaps", "statistics-swaps", "Counted swaps of a range of days",
		only(figureReaders...), http.StatusOK, w.apiFigure)
}

func (w *Web) apiFigure(ctx context.Context, in *figureInput) (*bodyOf[figureBody], error) {
	r, err := statistics.ParseRange(in.From, in.To)
	if err != nil {
		return nil, asStaffProblem(staff.AsMistake(err))
	}
	f, err := w.o.Staff.Figure(ctx, statistics.Question{Range: r, By: statistics.Dimension(in.By), AsOf: in.AsOf, Street: in.Street})
	if err != nil {
		return nil, asStaffProblem(err)
	}
	b := figureBody{
		From: f.From.String(), To: f.To.String(), By: string(f.By), AsOf: f.AsOf, Swaps: f.Swaps, Days: f.Days(), PerDay: f.PerDay,
		LaterSwaps: f.Later, Ungrouped: f.Ungrouped, Riders: f.Riders, Groups: []groupBody{},
	}
	for _, g := range f.Groups {
		x := groupBody{Key: g.Key, Name: g.Name, Level: g.Level, Riders: g.Riders, Hidden: g.Hidden}
		if n := g.Swaps; !g.Hidden {
			x.Swaps = &n
		}
		b.Groups = append(b.Groups, x)
	}
	return bodied(b, nil)
}
