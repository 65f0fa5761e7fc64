package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"batteryswap/protocol/modbus"
	"batteryswap/protocol/slotboard"
)

// printed reads a program's lines until one contains want.
func printed(t *testing.T, lines *bufio.Scanner, want string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), want) {
			return
		}
	}
	require.Fail(t, "never printed", "%q: %v", want, lines.Err())
}

func TestCabinetByHand(t *testing.T) {
	link := filepath.Join(t.TempDir(), "usb")
	in, type_, err := os.Pipe()
	require.NoError(t, err)
	read, out, err := os.Pipe()
	require.NoError(t, err)
	require.NoError(t, read.SetReadDeadline(time.Now().Add(20*time.Second)))
	c := cabinetCommand{ID: "hb-0001", Slots: 4, Charged: 1, Baud: 115200, Link: link, Speed: 1}
	done := make(chan error, 1)
	go func() { done <- c.run(t.Context(), in, out) }()
	lines := bufio.NewScanner(read)
	printed(t, lines, link)

	far, err := os.OpenFile(link, os.O_RDWR|unix.O_NOCTTY, 0)
	require.NoError(t, err)
	defer far.Close()
	q := modbus.Request{Unit: 2, Function: modbus.WriteRegister, Address: slotboard.HoldLock, Value: slotboard.LockCommand(1)}
	frame, err := q.Append(nil)
	require.NoError(t, err)
	_, err = far.Write(frame)
	require.NoError(t, err)
	printed(t, lines, "slot 2: unlock")
	printed(t, lines, "slot 2: the door is open (pulse)")
	for _, step := range []struct{ line, want string }{
		{"insert 2 B1 31", "battery B1 is in"},
		{"close 2", "slot 2: the door is shut, the bolt is locked by you, inside: B1"},
		{"open 2", "mechanical key"},
		{"remove 2", "you hold B1"},
		{"dance", "no: no such command"},
	} {
		_, err := io.WriteString(type_, step.line+"\n")
		require.NoError(t, err)
		printed(t, lines, step.want)
	}
	_, err = io.WriteString(type_, "quit\n")
	require.NoError(t, err)
	require.NoError(t, <-done)
	_, err = os.Lstat(link)
	require.ErrorIs(t, err, os.ErrNotExist, "the link is left behind")
}

func TestCabinetRefusesWrongUse(t *testing.T) {
	good := cabinetCommand{ID: "hb-0001", Slots: 4, Charged: 1, Baud: 115200}
	for name, spoil := range map[string]func(*cabinetCommand){
		"cabinet_id": func(c *cabinetCommand) { c.ID = "No" },
		"--charged":  func(c *cabinetCommand) { c.Charged = 5 },
		"slots":      func(c *cabinetCommand) { c.Slots, c.Charged = 0, 0 },
		"baud":       func(c *cabinetCommand) { c.Baud = 3 },
		"--scenario": func(c *cabinetCommand) { c.Scenario = "earthquake" },
	} {
		c := good
		spoil(&c)
		err := c.run(t.Context(), strings.NewReader(""), io.Discard)
		require.ErrorContains(t, err, name)
		require.True(t, isUsage(err))
	}
}
