/** Where a person is: in the fragment of the address, so that "back" works and a reload stays. */

export type Route =
  | { readonly screen: 'home' }
  | { readonly screen: 'select' }
  | { readonly screen: 'confirm' }
  | { readonly screen: 'history' }
  | { readonly screen: 'enrol' }
  | { readonly screen: 'study'; readonly id: string };

/** Return the route of a fragment; what is unknown leads home. */
export function routeOf(fragment: string): Route {
  const [screen = '', id] = fragment.replace(/^#\/?/, '').split('/');
  if (screen === 'study' && id) return { screen, id };
  if (screen === 'select' || screen === 'confirm' || screen === 'history' || screen === 'enrol')
    return { screen };
  return { screen: 'home' };
}

/** Return the fragment of a route. Only random ids stand in it. */
export function hashOf(route: Route): string {
  return route.screen === 'home'
    ? '#/'
    : route.screen === 'study'
      ? `#/study/${route.id}`
      : `#/${route.screen}`;
}
