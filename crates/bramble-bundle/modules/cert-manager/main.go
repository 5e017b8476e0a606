// cert-manager's controller, webhook and cainjector in one program: the same controllers under the flags that cert-manager's
// manifest gives. The rest of its options stay as they are by default.
package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"
	extensions "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
	aggregation "k8s.io/kube-aggregator/pkg/apis/apiregistration/v1"
	ctrl "sigs.k8s.io/controller-runtime"

	controllerconfig "github.com/cert-manager/cert-manager/internal/apis/config/controller/v1alpha1"
	webhookconfig "github.com/cert-manager/cert-manager/internal/apis/config/webhook"
	webhookscheme "github.com/cert-manager/cert-manager/internal/apis/config/webhook/scheme"
	"github.com/cert-manager/cert-manager/internal/webhook"
	cmapi "github.com/cert-manager/cert-manager/pkg/apis/certmanager/v1"
	controllerapi "github.com/cert-manager/cert-manager/pkg/apis/config/controller/v1alpha1"
	webhookapi "github.com/cert-manager/cert-manager/pkg/apis/config/webhook/v1alpha1"
	"github.com/cert-manager/cert-manager/pkg/controller"
	"github.com/cert-manager/cert-manager/pkg/controller/cainjector"
	"github.com/cert-manager/cert-manager/pkg/healthz"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/acme"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/vault"
	logf "github.com/cert-manager/cert-manager/pkg/logs"
	"github.com/cert-manager/cert-manager/pkg/util"
)

func main() {
	parts := map[string]func(context.Context, *pflag.FlagSet, []string) error{
		"controller": runController, "webhook": runWebhook, "cainjector": runInjector,
	}
	if len(os.Args) < 2 || parts[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "say controller, webhook or cainjector")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	log := klog.Background()
	ctrl.SetLogger(log)
	flags := pflag.NewFlagSet(os.Args[1], pflag.ExitOnError)
	flags.Int("v", 2, "")
	if err := parts[os.Args[1]](logf.NewContext(ctx, log, os.Args[1]), flags, os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func runController(ctx context.Context, flags *pflag.FlagSet, args []string) error {
	var config controllerapi.ControllerConfiguration
	controllerconfig.SetObjectDefaults_ControllerConfiguration(&config)
	solver := config.ACMEHTTP01Config
	flags.StringVar(&config.ClusterResourceNamespace, "cluster-resource-namespace", config.ClusterResourceNamespace, "")
	flags.StringVar(&config.LeaderElectionConfig.Namespace, "leader-election-namespace", "kube-system", "")
	flags.StringVar(&solver.SolverImage, "acme-http01-solver-image", solver.SolverImage, "")
	challenges := flags.Int("max-concurrent-challenges", 60, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	options := controller.ContextOptions{
		KubernetesAPIQPS:   *config.KubernetesAPIQPS,
		KubernetesAPIBurst: int(*config.KubernetesAPIBurst),
		IssuerOptions: controller.IssuerOptions{
			ClusterResourceNamespace:        config.ClusterResourceNamespace,
			ClusterIssuerAmbientCredentials: true,
		},
		ACMEOptions: controller.ACMEOptions{
			HTTP01SolverImage:                 solver.SolverImage,
			HTTP01SolverResourceRequestCPU:    resource.MustParse(solver.SolverResourceRequestCPU),
			HTTP01SolverResourceRequestMemory: resource.MustParse(solver.SolverResourceRequestMemory),
			HTTP01SolverResourceLimitsCPU:     resource.MustParse(solver.SolverResourceLimitsCPU),
			HTTP01SolverResourceLimitsMemory:  resource.MustParse(solver.SolverResourceLimitsMemory),
			ACMEHTTP01SolverRunAsNonRoot:      true,
			DNS01CheckAuthoritative:           true,
			DNS01CheckRetryPeriod:             10 * time.Second,
		},
		IngressShimOptions: controller.IngressShimOptions{
			DefaultIssuerKind:                 "Issuer",
			DefaultIssuerGroup:                "cert-manager.io",
			DefaultAutoCertificateAnnotations: []string{"kubernetes.io/tls-acme"},
		},
		CertificateOptions: controller.CertificateOptions{
			CopiedAnnotationPrefixes:                 config.CopiedAnnotationPrefixes,
			CertificateRequestMinimumBackoffDuration: time.Hour,
			CertificateRequestMaximumBackoffDuration: 32 * time.Hour,
		},
		SchedulerOptions: controller.SchedulerOptions{MaxConcurrentChallenges: *challenges},
	}
	factory, err := controller.NewContextFactory(ctx, options)
	if err != nil {
		return err
	}
	own, err := factory.Build("controller")
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", ":9403")
	if err != nil {
		return err
	}
	name, err := os.Hostname()
	if err != nil {
		return err
	}
	lock, err := resourcelock.New(resourcelock.LeasesResourceLock, config.LeaderElectionConfig.Namespace,
		"cert-manager-controller", own.Client.CoreV1(), own.Client.CoordinationV1(), resourcelock.ResourceLockConfig{Identity: name})
	if err != nil {
		return err
	}
	// Whatever fails ends the rest, and the lease is given back before the end.
	ctx, end := context.WithCancelCause(ctx)
	health := healthz.NewServer(20 * time.Second)
	go func() { end(health.Start(ctx, listener)) }()
	leaderelection.RunOrDie(ctx, leaderelection.LeaderElectionConfig{
		Lock: lock, LeaseDuration: 60 * time.Second, RenewDeadline: 40 * time.Second, RetryPeriod: 15 * time.Second,
		ReleaseOnCancel: true, WatchDog: health.LeaderHealthzAdaptor,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) { end(control(ctx, factory, own)) },
			OnStoppedLeading: func() {},
		},
	})
	if err := context.Cause(ctx); err != nil && err != context.Canceled {
		return err
	}
	return nil
}

// control runs all controllers that are enabled by default.
func control(ctx context.Context, factory *controller.ContextFactory, own *controller.Context) error {
	var wait sync.WaitGroup
	failed := make(chan error, len(controller.Known()))
	var starts []func()
	for name, build := range controller.Known() {
		if !slices.Contains(controllerconfig.DefaultEnabledControllers, name) {
			continue
		}
		built, err := build(factory)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		starts = append(starts, func() {
			if err := built.Run(5, ctx); err != nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	own.SharedInformerFactory.Start(ctx.Done())
	own.KubeSharedInformerFactory.Start(ctx.Done())
	own.HTTP01ResourceMetadataInformersFactory.Start(ctx.Done())
	for _, start := range starts {
		wait.Go(start)
	}
	go func() { wait.Wait(); failed <- ctx.Err() }()
	return <-failed
}

func runWebhook(ctx context.Context, flags *pflag.FlagSet, args []string) error {
	scheme, _, err := webhookscheme.NewSchemeAndCodecs()
	if err != nil {
		return err
	}
	var published webhookapi.WebhookConfiguration
	scheme.Default(&published)
	var config webhookconfig.WebhookConfiguration
	if err := scheme.Convert(&published, &config, nil); err != nil {
		return err
	}
	dynamic := &config.TLSConfig.Dynamic
	flags.Int32Var(&config.SecurePort, "secure-port", config.SecurePort, "")
	flags.StringVar(&dynamic.SecretNamespace, "dynamic-serving-ca-secret-namespace", "", "")
	flags.StringVar(&dynamic.SecretName, "dynamic-serving-ca-secret-name", "", "")
	flags.StringSliceVar(&dynamic.DNSNames, "dynamic-serving-dns-names", nil, "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	server, err := webhook.NewCertManagerWebhookServer(logf.FromContext(ctx), config)
	if err != nil {
		return err
	}
	return server.Run(ctx)
}

func runInjector(ctx context.Context, flags *pflag.FlagSet, args []string) error {
	namespace := flags.String("leader-election-namespace", "kube-system", "")
	if err := flags.Parse(args); err != nil {
		return err
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{
		clientscheme.AddToScheme, cmapi.AddToScheme, extensions.AddToScheme, aggregation.AddToScheme,
	} {
		utilruntime.Must(add(scheme))
	}
	metav1.AddToGroupVersion(scheme, metav1.SchemeGroupVersion)
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	// Its name there is that of the owner of the fields that it sets.
	manager, err := ctrl.NewManager(util.RestConfigWithUserAgent(config, "cainjector"), ctrl.Options{
		Scheme: scheme, LeaderElection: true, LeaderElectionReleaseOnCancel: true, LeaderElectionNamespace: *namespace,
		LeaderElectionID: "cert-manager-cainjector-leader-election",
	})
	if err != nil {
		return err
	}
	all := map[string]bool{}
	for _, kind := range []string{
		cainjector.MutatingWebhookConfigurationName, cainjector.ValidatingWebhookConfigurationName,
		cainjector.APIServiceName, cainjector.CustomResourceDefinitionName,
	} {
		all[kind] = true
	}
	injected := cainjector.SetupOptions{EnableCertificatesDataSource: true, EnabledReconcilersFor: all}
	if err := cainjector.RegisterAllInjectors(ctx, manager, injected); err != nil {
		return err
	}
	return manager.Start(ctx)
}
