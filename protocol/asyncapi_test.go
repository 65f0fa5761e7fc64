package protocol

import (
	"encoding"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

// asyncAPI is what the tests read of asyncapi.yaml.
type asyncAPI struct {
	AsyncAPI string `yaml:"asyncapi"`
	Channels map[string]struct {
		Address  string         `yaml:"address"`
		Messages map[string]ref `yaml:"messages"`
	} `yaml:"channels"`
	Operations map[string]struct {
		Action   string `yaml:"action"`
		Channel  ref    `yaml:"channel"`
		Messages []ref  `yaml:"messages"`
	} `yaml:"operations"`
	Components struct {
		Messages map[string]struct {
			Name    string `yaml:"name"`
			Summary string `yaml:"summary"`
			Payload struct {
				AllOf []schema `yaml:"allOf"`
			} `yaml:"payload"`
		} `yaml:"messages"`
		Schemas map[string]schema `yaml:"schemas"`
	} `yaml:"components"`
}

type ref struct {
	Ref string `yaml:"$ref"`
}

type schema struct {
	Ref                  string            `yaml:"$ref"`
	Type                 string            `yaml:"type"`
	Description          string            `yaml:"description"`
	Properties           map[string]schema `yaml:"properties"`
	Required             []string          `yaml:"required"`
	Items                *schema           `yaml:"items"`
	Enum                 []string          `yaml:"enum"`
	MaxItems             int               `yaml:"maxItems"`
	Maximum              int               `yaml:"maximum"`
	AdditionalProperties *schema           `yaml:"additionalProperties"`
}

func readAsyncAPI(t *testing.T) asyncAPI {
	t.Helper()
	b, err := os.ReadFile("asyncapi.yaml")
	require.NoError(t, err)
	var doc asyncAPI
	require.NoError(t, yaml.Unmarshal(b, &doc))
	require.Equal(t, "3.0.0", doc.AsyncAPI)
	return doc
}

// spoken is which messages go through which channel.
func spoken() map[Channel][]Type {
	return map[Channel][]Type{
		UpLog:       {TypeLog},
		UpRPC:       {TypeHello, TypePrepared, TypeRefused, TypeMaintenanceAnswer, TypeInventory},
		UpTelemetry: {TypeTelemetry},
		UpWill:      {TypeWill},
		Down:        {TypeHelloRequest, TypeHelloOK, TypeLogAck, TypePrepare, TypeGrant, TypeCancel, TypeWish, TypeGuide, TypeMaintenanceRequest, TypeMaintenanceGrant, TypeInventoryRequest},
	}
}

func TestAsyncAPIChannels(t *testing.T) {
	doc := readAsyncAPI(t)
	require.Len(t, doc.Channels, len(spoken()))
	require.Len(t, doc.Operations, len(spoken()))
	total := 0
	for ch, types := range spoken() {
		name := strings.ReplaceAll(string(ch), "/", "_")
		c, ok := doc.Channels[name]
		require.True(t, ok, "no channel %s", name)
		require.Equal(t, Topic("{cabinet_id}", ch), c.Address)
		require.Len(t, c.Messages, len(types), name)
		action := "send"
		if ch == Down {
			action = "receive"
		}
		op := doc.Operations[name]
		require.Equal(t, action, op.Action, name)
		require.Equal(t, "#/channels/"+name, op.Channel.Ref)
		for _, typ := range types {
			total++
			require.Equal(t, "#/components/messages/"+string(typ), c.Messages[string(typ)].Ref)
			require.Contains(t, op.Messages, ref{"#/channels/" + name + "/messages/" + string(typ)})
			m := doc.Components.Messages[string(typ)]
			require.Equal(t, string(typ), m.Name)
			require.NotEmpty(t, m.Summary, typ)
			require.Equal(t, []schema{{Ref: "#/components/schemas/header"}, {Ref: "#/components/schemas/" + string(typ)}}, m.Payload.AllOf, typ)
		}
	}
	require.Len(t, exampleMessages(), total, "a message goes through no channel")
	require.Len(t, doc.Components.Messages, total)
}

// TestAsyncAPIFields holds every field of every message against the document:
// its name, its JSON type, and whether it may be absent.
func TestAsyncAPIFields(t *testing.T) {
	doc := readAsyncAPI(t)
	used := map[string]bool{"header": true}
	for _, m := range exampleMessages() {
		name := string(m.MessageType())
		used[name] = true
		s, ok := doc.Components.Schemas[name]
		require.True(t, ok, "no schema %s", name)
		requireStruct(t, doc, name, s, reflect.TypeOf(m), used)
	}
	requireStruct(t, doc, "header", doc.Components.Schemas["header"], reflect.TypeFor[header](), used)
	require.Len(t, used, len(doc.Components.Schemas), "a schema is not used: %v", doc.Components.Schemas)
}

func requireStruct(t *testing.T, doc asyncAPI, at string, s schema, typ reflect.Type, used map[string]bool) {
	t.Helper()
	require.Equal(t, "object", s.Type, at)
	var required []string
	names := 0
	for i := range typ.NumField() {
		name, options, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		names++
		p, ok := s.Properties[name]
		require.True(t, ok, "%s.%s is not described", at, name)
		if !strings.Contains(options, "omit") {
			required = append(required, name)
		}
		requireType(t, doc, at+"."+name, p, typ.Field(i).Type, used)
	}
	require.Len(t, s.Properties, names, "%s describes fields that it does not have", at)
	slices.Sort(required)
	slices.Sort(s.Required)
	require.Equal(t, required, s.Required, "%s.required", at)
}

func requireType(t *testing.T, doc asyncAPI, at string, s schema, typ reflect.Type, used map[string]bool) {
	t.Helper()
	if name, ok := strings.CutPrefix(s.Ref, "#/components/schemas/"); ok {
		used[name] = true
		s, ok = doc.Components.Schemas[name]
		require.True(t, ok, "%s: no schema %s", at, name)
	}
	if typ.Kind() == reflect.Pointer {
		typ = typ.Elem()
	}
	want := ""
	switch {
	case typ.Implements(reflect.TypeFor[encoding.TextMarshaler]()) || typ == reflect.TypeFor[time.Time]() || typ == reflect.TypeFor[[]byte]():
		want = "string"
	case typ.Kind() == reflect.String:
		want = "string"
	case typ.Kind() == reflect.Bool:
		want = "boolean"
	case typ.Kind() == reflect.Float64:
		want = "number"
	case typ.Kind() >= reflect.Int && typ.Kind() <= reflect.Uint64:
		want = "integer"
	case typ.Kind() == reflect.Struct:
		requireStruct(t, doc, at, s, typ, used)
		return
	case typ.Kind() == reflect.Map:
		want = "object"
		require.NotNil(t, s.AdditionalProperties, at)
		requireType(t, doc, at+"{}", *s.AdditionalProperties, typ.Elem(), used)
	case typ.Kind() == reflect.Slice:
		want = "array"
		require.NotNil(t, s.Items, at)
		requireType(t, doc, at+"[]", *s.Items, typ.Elem(), used)
	}
	require.Equal(t, want, s.Type, at)
}

// TestAsyncAPIBounds holds the closed lists and the bounds against the document.
func TestAsyncAPIBounds(t *testing.T) {
	doc := readAsyncAPI(t)
	schemas := doc.Components.Schemas
	var all []string
	for _, r := range Reasons() {
		all = append(all, string(r))
	}
	require.Equal(t, all, schemas["reason"].Enum)
	require.Equal(t, []string{"swap", "owed", "issue", "hand_back"}, schemas["kind"].Enum)
	require.Equal(t, []string{string(VerdictResume), string(VerdictNewEpoch), string(VerdictWait)}, schemas["hello_ok"].Properties["verdict"].Enum)
	require.Equal(t, []string{WishRecheck}, schemas["wish"].Properties["what"].Enum)
	require.Equal(t, []string{string(OrderBegin), string(OrderOpen), string(OrderEnd)}, schemas["order"].Enum)
	require.Equal(t, []string{string(DoorOpen), string(DoorShut)}, schemas["slot_state"].Properties["door"].Enum)
	require.Equal(t, []string{string(PresenceEmpty), string(HoldsBattery)}, schemas["slot_state"].Properties["presence"].Enum)
	require.Equal(t, MaxSlots, schemas["inventory_list"].MaxItems)
	require.Equal(t, MaxDepositSlots, schemas["grant"].Properties["deposit_slots"].MaxItems)
	require.Equal(t, MaxOffers, schemas["grant"].Properties["dispense"].MaxItems)
	require.Equal(t, MaxExpectSerials, schemas["grant"].Properties["expect_serials"].MaxItems)
	require.Equal(t, MaxLogRecords, schemas["log"].Properties["records"].MaxItems)
	require.Equal(t, maxMetres, schemas["neighbour"].Properties["metres"].Maximum)
	require.Equal(t, MaxFlaggedSerials, schemas["config"].Properties["flagged_serials"].MaxItems)
}
