//! Runs functions of a shell library under dash with stubs of the programs that they call.
