// Package ext has what Traefik's dynamic configuration is extended by: nothing.
package ext

// HTTP extends the configuration of HTTP.
type HTTP struct{}

// Router extends the configuration of a router.
type Router struct{}
