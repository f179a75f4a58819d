-- The example domain, by the helpers for testing one's own.
BEGIN;
SELECT no_plan();
\ir helpers.psql
\ir ../../testing/dugong_testing.sql
\ir ../../examples/shopping_cart.sql

\set cart '''ca470000-0000-4000-8000-000000000001'''
\set added '''[{"type": "ItemAdded", "payload": {"sku": "A1", "quantity": 2}}]'''
SELECT count(*) AS events FROM dugong.event_log \gset

SELECT dugong_testing.scenario('a new cart', 'ShoppingCart', :cart, '[]', format('SELECT shop.add_item(%L, ''A1'', 2)', :cart),
    then_events => :added, then_state => '{"id": "ca470000-0000-4000-8000-000000000001", "items": {"A1": 2}, "checked_out": false}');
SELECT dugong_testing.scenario('more of it', 'ShoppingCart', :cart, :added, format('SELECT shop.add_item(%L, ''A1'', 3)', :cart),
    then_events => '[{"type": "ItemAdded", "payload": {"sku": "A1", "quantity": 3}}]', then_state => '{"id": "ca470000-0000-4000-8000-000000000001", "items": {"A1": 5}, "checked_out": false}');
SELECT dugong_testing.scenario('removing', 'ShoppingCart', :cart, :added, format('SELECT shop.remove_item(%L, ''A1'')', :cart),
    then_events => '[{"type": "ItemRemoved", "payload": {"sku": "A1"}}]', then_state => '{"id": "ca470000-0000-4000-8000-000000000001", "items": {}, "checked_out": false}');
SELECT dugong_testing.scenario('removing what is not there', 'ShoppingCart', :cart, :added, format('SELECT shop.remove_item(%L, ''B2'')', :cart), then_error => 'UG004');
SELECT dugong_testing.scenario('checking out', 'ShoppingCart', :cart, :added, format('SELECT shop.check_out(%L)', :cart),
    then_events => '[{"type": "CheckedOut", "payload": {}}]', then_state => '{"id": "ca470000-0000-4000-8000-000000000001", "items": {"A1": 2}, "checked_out": true}');
SELECT dugong_testing.scenario('checking out an empty cart', 'ShoppingCart', :cart,
    '[{"type": "ItemAdded", "payload": {"sku": "A1", "quantity": 2}}, {"type": "ItemRemoved", "payload": {"sku": "A1"}}]', format('SELECT shop.check_out(%L)', :cart), then_error => 'UG004');
SELECT dugong_testing.scenario('adding after checking out', 'ShoppingCart', :cart,
    '[{"type": "ItemAdded", "payload": {"sku": "A1", "quantity": 2}}, {"type": "CheckedOut", "payload": {}}]', format('SELECT shop.add_item(%L, ''B2'', 1)', :cart), then_error => 'UG004');
SELECT dugong_testing.scenario('discarding', 'ShoppingCart', :cart, :added, format('SELECT shop.discard(%L)', :cart),
    then_events => '[{"type": "Discarded", "payload": {}}]', then_state => 'null');
SELECT dugong_testing.scenario('no cart', 'ShoppingCart', :cart, '[]', format('SELECT shop.check_out(%L)', :cart), then_error => 'UG002');
SELECT dugong_testing.scenario('a discarded cart', 'ShoppingCart', :cart, '[{"type": "ItemAdded", "payload": {"sku": "A1", "quantity": 2}}, {"type": "Discarded", "payload": {}}]',
    format('SELECT shop.check_out(%L)', :cart), then_error => 'UG003');
SELECT dugong_testing.scenario('no quantity', 'ShoppingCart', :cart, '[]', format('SELECT shop.add_item(%L, ''A1'', 0)', :cart), then_error => 'UG008');
SELECT is((SELECT count(*) FROM dugong.event_log), :events::bigint, 'scenarios leave nothing behind');

SELECT * FROM finish();
ROLLBACK;
