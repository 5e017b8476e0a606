# Takes the functions of the distribution; defines tell_records.

# Tells of each node `@fact node NAME` with its labels, taints and range, and `@fact service ADDRESS`; before that of node, for
# whoever reads it as a table, its name, whether it is Ready, whether it was left cordoned, and whether it was said to be out.
tell_records() {
    kubectl_admin -n default get nodes,services --request-timeout=10s -o 'go-template={{range .items}}{{if eq .kind "Service"}}{{if eq .metadata.name "kubernetes"}}@fact service {{.spec.clusterIP}}{{"\n"}}{{end}}{{else}}{{.metadata.name}} {{range .status.conditions}}{{if eq .type "Ready"}}{{.status}}{{end}}{{end}} {{with .metadata.annotations}}{{with index . "bramble/cordoned"}}{{.}}{{end}} {{with index . "bramble/out"}}out{{end}}{{end}}{{"\n"}}@fact node {{.metadata.name}}{{with .spec.podCIDR}} pods={{.}}{{end}}{{range $k, $v := .metadata.labels}} label={{$k}}={{$v}}{{end}}{{range .spec.taints}} taint={{.key}}={{with .value}}{{.}}{{end}}:{{.effect}}{{end}}{{with .metadata.annotations}}{{with index . "bramble/labels"}} own-labels={{.}}{{end}}{{with index . "bramble/taints"}} own-taints={{.}}{{end}}{{end}}{{"\n"}}{{end}}{{end}}'
}
