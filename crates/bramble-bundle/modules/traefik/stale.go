package auth

import "net/http"

// RequireAuthStale asks for authentication again, as for a nonce that is too old.
func (da *DigestAuth) RequireAuthStale(w http.ResponseWriter, r *http.Request) { da.RequireAuth(w, r) }
