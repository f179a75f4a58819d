-- How the registry and the appends word what they refuse.
\set cart '''0ae00000-0000-4000-8000-000000000001'''
SELECT dugong.append_event('Wagon', :cart, 'Added');
SET dugong.origin = 'Shop';
SELECT dugong.create_aggregate_type('Wagon');
SELECT dugong.create_aggregate_type('Wagon');
SELECT dugong.create_aggregate_type('Wagon', origin => 'Museum');
SELECT dugong.append_event('Wagon', :cart, 'Added');
SELECT dugong.append_event('Wagon', :cart, 'Added', origin => 'Museum');
SELECT dugong.append_event('Wagon', :cart, 'Added', origin => 'Nowhere');
SELECT dugong.drop_aggregate_type('Wagon', origin => 'Museum');
SELECT sequence_number FROM dugong.append_event('Wagon', :cart, 'Added', '{"sku": "A"}', event_id => '0ae00000-0000-4000-8000-00000000000e');
SELECT dugong.append_event('Wagon', :cart, 'Added', expected_sequence_number => 0);
SELECT dugong.append_event('Wagon', :cart, 'Added', expected_sequence_number => 4);
SELECT dugong.append_event('Wagon', :cart, 'Added', expected_sequence_number => -1);
SELECT dugong.append_event('Wagon', :cart, 'Added', '{"sku": "B"}', event_id => '0ae00000-0000-4000-8000-00000000000e');
SELECT dugong.append_event('Wagon', :cart, '');
SELECT dugong.append_event('Wagon', NULL, 'Added');
SELECT dugong.append_events('Wagon', :cart, '[{"type": "Added"}, {"typ": "Added"}]');
SELECT dugong.append_events('Wagon', :cart, '[{"type": "Added"}, {"payload": 1}]');
SELECT dugong.append_events('Wagon', :cart, '{"type": "Added"}');
SELECT dugong.append_events('Wagon', :cart, '[{"type": "Added", "eventId": "0ae00000-0000-4000-8000-00000000000e", "payload": {"sku": "A"}}, {"type": "Added"}]');
SELECT dugong.drop_aggregate_type('Wagon');
SELECT dugong.create_aggregate_type('Fold', fold => 'lower(text)');
SELECT dugong.create_aggregate_type('Fold', fold => 'max(int)');
SELECT dugong.create_aggregate_type(repeat('long', 20));

-- Declared types
CREATE DOMAIN wagon_load AS int CHECK (VALUE > 0);
CREATE TYPE wagon_loaded AS (goods text, load wagon_load);
SELECT dugong.create_event_type('Wagon', 'Loaded', payload_type => 'wagon_loaded');
SELECT dugong.append_event('Wagon', :cart, 'Loaded', '{"goods": "coal"}');
SELECT dugong.append_event('Wagon', :cart, 'Loaded', '{"goods": "coal", "load": 0}');
SELECT dugong.append_event('Wagon', :cart, 'Loaded', '{"goods": "coal", "load": 1, "colour": "black"}');
SELECT dugong.append_event('Wagon', :cart, 'Loaded', '{"goods": 7, "load": 1}');
SELECT dugong.append_event('Wagon', :cart, 'Loaded');
SELECT dugong.alter_aggregate_type('Wagon', strict => true);
SELECT dugong.append_event('Wagon', :cart, 'Added');
SELECT dugong.create_event_type('Wagon', 'Loaded');
SELECT dugong.create_event_type('Wagon', 'Loaded', 5);
SELECT dugong.create_event_type('Wagon', 'Other', payload_type => 'text');
SELECT dugong.create_event_type('Wagon', 'Other', 2, upcast => 'lower(text)');

-- Other origins
SELECT dugong.create_aggregate_type('Parcel', origin => 'Shipping');
SELECT dugong.append_event('Parcel', :cart, 'Sent');
SELECT dugong.receive_message('{"origin": "Shipping", "aggregateType": "Parcel", "type": "Sent", "id": "0ae00000-0000-4000-8000-00000000000f", "aggregateId": "0ae00000-0000-4000-8000-000000000001", "sequenceNumber": 3}');
SELECT dugong.receive_message('{"origin": "Shipping", "aggregateType": "Parcel"}');
SELECT dugong.receive_message('{"origin": "Shop", "aggregateType": "Wagon", "type": "Added", "id": "0ae00000-0000-4000-8000-00000000000d", "aggregateId": "0ae00000-0000-4000-8000-000000000001", "sequenceNumber": 2}');

-- Upcasts that fail say of what
CREATE FUNCTION wagon_v2(jsonb) RETURNS jsonb LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no wagon'; END $$;
SELECT dugong.create_event_type('Wagon', 'Added', 2, upcast => 'wagon_v2(jsonb)');
SELECT payload FROM dugong.aggregate_events('Wagon', :cart);
SELECT type, version, failed, sqlstate, message FROM dugong.check_event_types() WHERE failed > 0;
DROP FUNCTION wagon_v2;
SELECT payload FROM dugong.aggregate_events('Wagon', :cart);
SELECT dugong.drop_event_type('Wagon', 'Added');
RESET dugong.origin;
