// What add-ons are made of and some mirrors of modules lack in parts: what needs the rest is cut out (builder.sh).
module bramble.invalid/cut

go 1.26.0

require (
	github.com/abbot/go-http-auth v0.4.1-0.20220112235402-e1cee1c72f2f
	github.com/cert-manager/cert-manager v1.21.2
	github.com/flannel-io/flannel v0.28.10
	github.com/go-acme/lego/v5 v5.4.1
	github.com/metallb/frr-k8s v0.0.21
)
