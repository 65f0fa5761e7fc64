// Package config is what the backend is told by flags and environment.
//
// It knows the flags, their environment names, their defaults and what is wrong
// with a value. It gives all mistakes at once, each by the name of its flag. It
// needs nothing but the values and the files they name.
package config
