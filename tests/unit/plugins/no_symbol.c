/* no_symbol.c - a shared object that is no plugin. SPDX-License-Identifier: Apache-2.0 */
int gopher_something_else = 1;
