// Package process runs programs as an operator would: it starts them, kills
// them as a power cut does, stops them in good order, and keeps what they said.
//
// It knows processes and their logs, and how a throwaway PostgreSQL and a
// throwaway mosquitto are made out of the machine's own programs. It gives
// Program for what keeps running, Tools for what ends by itself, and both
// servers. It needs Linux and, for the servers, their packages installed.
package process
